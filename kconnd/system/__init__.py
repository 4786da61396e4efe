"""The outside world, one thing a file: files, sockets, processes, kernels' channels."""
