"""`kconnd-ctl`, the command line client; heavy modules are imported only when they are needed."""
