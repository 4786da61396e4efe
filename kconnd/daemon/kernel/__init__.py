"""The supervision of one kernel: its actor, its process, and what is observed of it."""
