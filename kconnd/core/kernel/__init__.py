"""How a kernel lives: its states, what changes them, its record, and how it is shown."""
