"""Periodic and background tasks of the daemon."""
