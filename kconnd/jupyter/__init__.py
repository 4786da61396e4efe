"""Extensions with which Jupyter uses kernels of kconnd; the daemon imports none of them."""
