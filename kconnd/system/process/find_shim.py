"""Find a shim by its command line, when its files are gone.

The command line ends with the kernel's name. A spawned shim runs ``python -I -S shim.pyc NAME``; in
a unit, the path of the plan follows. A forked shim shows ``kconnd-shim NAME`` as one argument
(`kconnd.programs.zygote`).
"""

import os

import psutil

from kconnd.system.process.processes import ProcessId, read_stat

ARGUMENT_COUNTS = (5, 6)  # of a spawned shim, and of one in a unit


def find_shim(name: str) -> ProcessId | None:
    """Find the shim of a kernel among our own processes, by the kernel's unique name."""
    for process in psutil.process_iter():
        try:
            # A forked shim's command line is padded with empty arguments.
            arguments = [argument for argument in process.cmdline() if argument]
            if _is_shim(arguments, name) and process.uids().effective == os.geteuid():
                return ProcessId(process.pid, read_stat(process.pid)[2])
        except (psutil.Error, OSError):
            continue  # the process ended
    return None


def _is_shim(arguments: list[str], name: str) -> bool:
    if arguments == [f"kconnd-shim {name}"]:
        return True
    if len(arguments) not in ARGUMENT_COUNTS or arguments[1:3] != ["-I", "-S"]:
        return False
    program = os.path.basename(arguments[3])  # noqa: PTH119  # an argument of another process
    return program.startswith("shim.") and arguments[4] == name
