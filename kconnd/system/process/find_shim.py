"""Find a shim by its command line, if its files were removed.

The command line contains the kernel's name. A spawned shim has the command line ``python -I -S
shim.pyc NAME``; in a unit, the path of the plan follows NAME. The command line of a forked shim is
the single argument ``kconnd-shim NAME`` (`kconnd.programs.zygote`).
"""

import os

import psutil

from kconnd.system.process.processes import ProcessId, read_stat

ARGUMENT_COUNTS = (5, 6)  # a spawned shim has five arguments, a shim in a unit has six


def find_shim(name: str) -> ProcessId | None:
    """Find the shim of a kernel among this user's processes, by the kernel's unique name."""
    for process in psutil.process_iter():
        try:
            # A forked shim's command line is padded with empty arguments.
            arguments = [argument for argument in process.cmdline() if argument]
            if _is_shim(arguments, name) and process.uids().effective == os.geteuid():
                return ProcessId(process.pid, read_stat(process.pid)[2])
        except (psutil.Error, OSError):
            continue  # the process has ended
    return None


def _is_shim(arguments: list[str], name: str) -> bool:
    if arguments == [f"kconnd-shim {name}"]:
        return True
    if len(arguments) not in ARGUMENT_COUNTS or arguments[1:3] != ["-I", "-S"]:
        return False
    program = os.path.basename(arguments[3])  # noqa: PTH119  # an argument of another process
    return program.startswith("shim.") and arguments[4] == name
