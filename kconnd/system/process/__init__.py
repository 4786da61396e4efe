"""Processes, control groups and memory, as the operating system shows them."""
