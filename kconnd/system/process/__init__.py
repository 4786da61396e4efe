"""Processes, cgroups and memory, read from the operating system."""
