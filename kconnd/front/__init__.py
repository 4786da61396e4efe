"""The front door: a root service that starts a daemon for each user and units for kernels."""
