"""kconnd makes Jupyter kernels into services of a machine."""

__version__ = "0.1.0"
