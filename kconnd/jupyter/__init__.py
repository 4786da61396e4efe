"""Extensions of Jupyter through which Jupyter uses kernels of kconnd; the daemon imports none."""
