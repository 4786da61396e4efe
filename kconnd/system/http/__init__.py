"""The HTTP server on a Unix socket, and the identity of its peers."""
