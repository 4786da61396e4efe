"""The zygote: a process that has imported ipykernel and from which kernels are forked.

The kernels' own interpreter runs the zygote, and kconnd is not installed there. `main` forks
kernels. `imports` imports the modules that kernels need. `precompute`, `heap_layout` and `prefault`
reduce the start time or the memory of a forked kernel. `staleness` detects that the imported
modules have changed on disk.

Rules. Each file imports only the standard library and runs on Python 3.9. The files do not import
each other; they are loaded by path, so that no additional modules are visible in a kernel.
"""
