"""Warm kernels: their pool, how one is made, and how one gets its name."""
