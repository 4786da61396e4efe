"""Finding a shim whose files are gone, by its command line, which has the kernel's name last.

One that was spawned runs ``python -I -S shim.pyc NAME`` and one in a unit has its plan's path
after that; one that was forked shows ``kconnd-shim NAME`` as one word (`kconnd.programs.zygote`).
"""

import os

import psutil

from kconnd.system.process.processes import ProcessId, read_stat

WORDS = (5, 6)  # in the command line of one that was spawned, or runs in a unit


def find_shim(name: str) -> ProcessId | None:
    """Find the shim of a kernel among our own processes, by a name that no other has."""
    for process in psutil.process_iter():
        try:
            words = [word for word in process.cmdline() if word]  # it is padded to its room
            if _is_shim(words, name) and process.uids().effective == os.geteuid():
                return ProcessId(process.pid, read_stat(process.pid)[2])
        except (psutil.Error, OSError):
            continue  # it ended while we looked
    return None


def _is_shim(words: list[str], name: str) -> bool:
    if words == [f"kconnd-shim {name}"]:
        return True
    spawned = len(words) in WORDS and words[1:3] == ["-I", "-S"]
    return spawned and os.path.basename(words[3]).startswith("shim.") and words[4] == name  # noqa: PTH119  # a word of another process
