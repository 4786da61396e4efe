"""Probes of kernels' software, on kernels that nobody else uses."""
