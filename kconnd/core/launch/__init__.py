"""What is launched: the plan of a process, its connection, and the files it needs."""
