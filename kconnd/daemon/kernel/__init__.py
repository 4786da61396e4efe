"""The supervision of one kernel: its actor, its process and its observed state."""
