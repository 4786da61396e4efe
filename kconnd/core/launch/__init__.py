"""Launches as values: the plan of a process, its connection, ports and files."""
