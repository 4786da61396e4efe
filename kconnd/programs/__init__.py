"""Programs that run beside or inside a kernel; they import nothing else of kconnd."""
