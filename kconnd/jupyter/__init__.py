"""Extensions that Jupyter loads to use kernels of kconnd; the daemon does not import them."""
