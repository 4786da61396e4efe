"""Warm kernels: kernels that run in advance, and get a name when a user starts a kernel."""
