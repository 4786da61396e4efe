"""Wire formats: Jupyter messages, ZMTP, heads of HTTP requests, socket tables of the system."""
