"""The zygote: a process with ipykernel imported, from which kernels are forked.

It is a program of the kernels' own interpreter, where nothing of kconnd is installed. `main` forks;
`precompute` and `heap_layout` are what makes a forked kernel start fast, and cost
little memory; `staleness` tells whether what was imported is still what is on disk.

Rules. Each file is standard library only, runs on Python 3.9 and imports none of the others: they
are loaded by their paths, so that a kernel has no modules that it would not have.
"""
