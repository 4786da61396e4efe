"""The owner daemon: loop, socket server and one actor per kernel; `main` builds the objects."""
