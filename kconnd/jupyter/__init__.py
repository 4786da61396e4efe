"""Ways for Jupyter to use kernels that kconnd keeps; loaded by Jupyter, not by kconnd."""
