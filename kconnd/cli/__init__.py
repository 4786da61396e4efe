"""`kconnd-ctl`: arguments in, text or JSON out; nothing heavy is imported before it is needed."""
