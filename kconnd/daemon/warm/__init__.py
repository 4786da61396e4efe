"""Warm kernels: kernels that are started in advance and get their names at a later start."""
