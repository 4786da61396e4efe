"""Lists the files that processes have mapped or have open for reading, from proc(5).

A running process needs these files, and it has read them: programs, libraries, archives. Files that
a process writes are left out, because their changes are its own.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from kconnd.system.process.processes import ProcessId, descendants

DELETED = " (deleted)"  # proc_pid_maps(5) appends this to the path of a deleted file
DEVICES = "/dev/"


def files_in_use(root: ProcessId) -> set[str]:
    """List the files that a process and its descendants have mapped or have open for reading."""
    paths: set[str] = set()
    for process in (root, *descendants(root)):
        with contextlib.suppress(OSError):  # the process has exited
            paths.update(_mapped(process.pid))
            paths.update(_open_for_reading(process.pid))
    return paths


def _mapped(pid: int) -> Iterator[str]:
    """List the mapped files, except those that the process can change through a mapping."""
    with Path(f"/proc/{pid}/maps").open(encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.rstrip("\n").split(maxsplit=5)
            mode, path = fields[1], fields[5] if len(fields) > 5 else ""  # noqa: PLR2004  # the path is last
            if path.startswith("/") and not path.startswith(DEVICES) and mode[1::2] != "ws":
                yield path.removesuffix(DELETED)


def _open_for_reading(pid: int) -> Iterator[str]:
    folder = f"/proc/{pid}/fd"
    for number in os.listdir(folder):  # noqa: PTH208  # creating a Path takes longer than reading it
        try:
            path = os.readlink(f"{folder}/{number}")  # noqa: PTH115  # faster than Path.readlink
            if not path.startswith("/") or path.startswith(DEVICES):
                continue
            is_file = stat.S_ISREG(os.stat(f"{folder}/{number}").st_mode)  # noqa: PTH116  # a path in proc(5)
            if is_file and _is_read_only(Path(f"/proc/{pid}/fdinfo/{number}")):
                yield path.removesuffix(DELETED)
        except OSError:
            continue  # the descriptor was closed in the meantime


def _is_read_only(description: Path) -> bool:
    """Read the access mode of a descriptor, which fdinfo shows as octal digits."""
    for line in description.read_text("ascii").splitlines():
        if line.startswith("flags:"):
            return int(line.split()[1], 8) & os.O_ACCMODE == os.O_RDONLY
    return False
