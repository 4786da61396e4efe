"""Background tasks of the daemon, most of which are periodic."""
