"""The requests that the daemon answers."""
