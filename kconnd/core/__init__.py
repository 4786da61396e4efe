"""All decisions of kconnd, as pure functions: no I/O and no clock."""
