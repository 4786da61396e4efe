"""Warm kernels: kernels that are started in advance and handed over to the next matching start."""
