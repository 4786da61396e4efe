"""The owner's daemon: event loop, socket server and one actor per kernel.

`main` builds all objects.
"""
