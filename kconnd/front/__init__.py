"""The front door: what root does for many users, and no more than that."""
