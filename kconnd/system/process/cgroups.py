"""Control groups: where the service manager keeps a process, and what is in there with it.

Rules. Whoever has a part of the tree for themselves may call a group there what they like: names
are bytes, and prove nothing, but for the first one below slices, which is the system's. Only a
group that was made for one kernel alone is ever emptied.
"""

import asyncio
import contextlib
import os
import signal
from functools import cache
from pathlib import Path

import psutil

from kconnd.core.paths import KERNEL_UNIT
from kconnd.system.process.processes import ProcessId, ended, read_stat, send_signal

GRACE = 2.0  # seconds that left-over processes get between SIGTERM and SIGKILL, as by a shim


def cgroup_of(pid: int) -> str:
    """Give a process's place in the tree of the service manager: cgroups(7), v1 and v2."""
    try:
        rows = Path(f"/proc/{pid}/cgroup").read_bytes()
    except OSError:
        return ""
    return place_in(rows, unified=_is_unified())


@cache  # it is the same for as long as the machine runs
def _is_unified() -> bool:
    """Tell whether the manager has its tree in version 2, as systemd does: by what is mounted."""
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def place_in(rows: bytes, *, unified: bool) -> str:
    """Find the manager's tree in what ``/proc/PID/cgroup`` says.

    Parameters
    ----------
    rows : bytes
        ``ID:CONTROLLERS:PLACE``, a line for each tree.
    unified : bool
        Whether that tree is the one of version 2. Otherwise it is the one named so in version 1,
        or where there is none, too, that of version 2.
    """
    parts = (row.split(b":", 2) for row in rows.split(b"\n"))
    found = {one[1]: os.fsdecode(one[2]) for one in parts if len(one) == 3}  # noqa: PLR2004
    second = found.get(b"", "")
    return second if unified else found.get(b"name=systemd", second)


def unit_of(pid: int) -> str:
    """Give the unit of the system's manager that a process is in; empty where that cannot be told.

    What is below a unit may be called anything, as by a user's own manager, which is in a unit.
    """
    return unit_in(system_cgroup_of(pid))


def system_cgroup_of(pid: int) -> str:
    """Give a process's place below the root of the system's manager; empty where it is unknown."""
    return below_root(cgroup_of(pid), cgroup_of(1))


def below_root(place: str, manager: str) -> str:
    """Give a place below the root, which a container's manager has somewhere in the host's tree.

    Parameters
    ----------
    place : str
        A process's.
    manager : str
        The place of pid 1.
    """
    return place.removeprefix(manager.removesuffix("/init.scope").rstrip("/"))


def unit_in(place: str) -> str:
    """Give the first part of a place that is no slice."""
    return next((part for part in place.split("/") if part and not part.endswith(".slice")), "")


def kernels_own(shim: int) -> str:
    """Give the cgroup that was just made for a kernel, in which its shim is; empty where none was.

    One that we are in ourselves is another kernel's, in which this daemon was started.
    """
    found = cgroup_of(shim)
    named = found.rpartition("/")[2].startswith(KERNEL_UNIT)
    return found if named and not _is_below(cgroup_of(os.getpid()), found) else ""


def _is_below(place: str, group: str) -> bool:
    return f"{place}/".startswith(f"{group}/")


def members(group: str) -> list[ProcessId]:
    """List the processes of a group, and of groups below it."""
    found = []
    for pid in psutil.pids():
        if _is_below(cgroup_of(pid), group):
            with contextlib.suppress(OSError):  # it has ended
                found.append(ProcessId(pid, read_stat(pid)[2]))
    return found


async def empty(group: str, grace: float = GRACE) -> None:
    """End all processes of a group: by SIGTERM, and after ``grace`` seconds by SIGKILL.

    Raises
    ------
    OSError
        If they cannot be listed or signalled, for want of descriptors say.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        left = members(group)
        for process in left:
            with contextlib.suppress(PermissionError):  # a set-uid program, which is not ours
                send_signal(process, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                for process in left:
                    await ended(process)
