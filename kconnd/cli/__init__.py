"""`kconnd-ctl`, the command line client; a command imports heavy modules only if needed."""
