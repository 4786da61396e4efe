"""The owner's daemon: an event loop, a socket server and one actor per kernel.

`main` builds the daemon's objects.
"""
