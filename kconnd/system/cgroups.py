"""Control groups: where the service manager keeps a process, and what is in there with it.

Rules. Only a group that was made for one kernel alone is ever emptied, which its name tells
(`kconnd.core.places`): any other is a login's, or that of the daemon itself.
"""

import asyncio
import contextlib
import signal
from pathlib import Path

import psutil

from kconnd.core.places import KERNEL_UNIT
from kconnd.system.processes import ProcessId, ended, is_alive, read_stat, send_signal

GRACE = 2.0  # seconds that left-over processes get between SIGTERM and SIGKILL, as by a shim


def cgroup_of(pid: int) -> str:
    """Give a process's place in the tree of the service manager: cgroups(7), v1 and v2."""
    try:
        rows = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    found = dict(row.split(":", 2)[1:] for row in rows)
    return found.get("name=systemd", found.get("", ""))


def kernels_own(kernel: ProcessId) -> str:
    """Give the cgroup that a living kernel has for itself; empty where it shares one."""
    found = cgroup_of(kernel.pid)
    if not found.rpartition("/")[2].startswith(KERNEL_UNIT):
        return ""
    try:
        return found if is_alive(kernel) else ""  # asked last: its number may be used again
    except OSError:
        return ""


def members(group: str) -> list[ProcessId]:
    """List the processes of a group, and of groups below it."""
    found = []
    for pid in psutil.pids():
        if f"{cgroup_of(pid)}/".startswith(f"{group}/"):
            with contextlib.suppress(OSError):  # it has ended
                found.append(ProcessId(pid, read_stat(pid)[2]))
    return found


async def empty(group: str, grace: float = GRACE) -> None:
    """End all processes of a group: by SIGTERM, and after ``grace`` seconds by SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        left = members(group)
        for process in left:
            with contextlib.suppress(PermissionError):  # a set-uid program, which is not ours
                send_signal(process, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                for process in left:
                    await ended(process)
