"""Memory, processor time, sockets and file descriptors of processes, from proc(5)."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from kconnd.system.process.processes import ProcessId, descendants, read_stat_fields


def tree_memory(root: ProcessId) -> int:
    """Sum the proportional set size (PSS) of a process and its descendants, in bytes.

    PSS divides a shared page among the processes that map it.
    """
    return sum(_read_pss(process.pid) for process in (root, *descendants(root)))


def _read_pss(pid: int) -> int:
    """Read a process's PSS in bytes from proc_pid_smaps(5); 0 if the file cannot be read."""
    try:
        with Path(f"/proc/{pid}/smaps_rollup").open("rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def tree_cpu_seconds(*roots: ProcessId) -> dict[tuple[int, int], float]:
    """Return the processor time in seconds of some processes and of all their descendants.

    The key of a time is the pid and start time of the process. The time of an ended child is
    included in the time of the parent that has waited for the child.
    """
    cpu_seconds: dict[tuple[int, int], float] = {}
    for root in roots:
        for process in (root, *descendants(root)):
            with contextlib.suppress(OSError):
                started, seconds = _read_cpu_seconds(process.pid)
                if started == process.started:
                    cpu_seconds[process.pid, started] = seconds
    return cpu_seconds


def _read_cpu_seconds(pid: int) -> tuple[int, float]:
    """Read a process's start time, and the processor time of the process and its ended children."""
    fields = read_stat_fields(pid)
    return int(fields[19]), sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def sockets_of(pid: int) -> Iterator[int]:
    """List the inodes of a process's sockets (proc_pid_fd(5))."""
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):  # noqa: PTH208  # creating a Path takes longer than reading it
        try:
            target = os.readlink(f"{folder}/{name}")  # noqa: PTH115  # faster than Path.readlink
        except OSError:
            continue  # the descriptor was closed in the meantime
        if target.startswith("socket:["):
            yield int(target[8:-1])


def count_descriptors() -> tuple[int, int]:
    """Return the number of this process's open file descriptors, and its limit (getrlimit(2))."""
    folder = "/proc/self/fd"
    # Since Linux 6.2, the size of this folder is the number of descriptors (proc_pid_fd(5)).
    used = os.stat(folder).st_size or len(os.listdir(folder))  # noqa: PTH116, PTH208  # at each start
    return used, resource.getrlimit(resource.RLIMIT_NOFILE)[0]
