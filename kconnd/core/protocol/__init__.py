"""Wire formats: Jupyter messages, ZMTP, heads of HTTP requests, and the system's socket tables."""
