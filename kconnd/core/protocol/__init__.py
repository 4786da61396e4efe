"""Wire formats as bytes and values: Jupyter messages, ZMTP, HTTP requests, socket tables."""
