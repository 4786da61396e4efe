"""Connections to the ZMQ sockets of a kernel."""
