"""Private files, locks, logs, and the detection of changes of files."""
