"""kconnd runs Jupyter kernels as services of a machine."""

__version__ = "0.1.0"
