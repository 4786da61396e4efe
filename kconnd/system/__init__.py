"""Access to the operating system: files, processes, sockets, systemd, and kernels' channels."""
