"""The HTTP server on a Unix socket, and who is on the other end of a connection."""
