"""The zygote: a process with ipykernel imported, from which kernels are forked.

It is a program of the kernels' own interpreter, where nothing of kconnd is installed. `main` forks;
`precompute` and `heap_layout` make a forked kernel start fast and use little memory; `staleness`
detects that the imported modules differ from those on disk.

Rules. Each file uses the standard library only, runs on Python 3.9 and imports none of the other
files: they are loaded by path, so that a kernel has no modules that it would not have otherwise.
"""
