"""The life of a kernel: its states, transitions and record, and its description for clients."""
