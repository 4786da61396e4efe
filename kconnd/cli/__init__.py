"""`kconnd-ctl`, the command line client, which imports a heavy module when a command needs it."""
