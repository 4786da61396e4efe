"""Warm kernels: started in advance, and handed over to the next matching start."""
