"""The life of a kernel: states, transitions, record, and the reply about it."""
