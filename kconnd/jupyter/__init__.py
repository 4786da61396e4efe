"""Extensions with which Jupyter uses kernels of kconnd; the daemon does not import them."""
