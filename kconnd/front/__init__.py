"""The front door: a root service that starts users' daemons and creates units for kernels."""
