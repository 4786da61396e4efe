"""Private files, locks, logs, and changes of files on disk."""
