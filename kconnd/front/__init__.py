"""The front door: the few things that root does so that each user can have a daemon."""
