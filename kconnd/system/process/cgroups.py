"""Control groups: the cgroup and unit of a process, and the processes of a cgroup.

Rules. The name of a cgroup does not prove who created the cgroup: a user who controls a part of the
tree can create a cgroup with any name there. In a path, the system's service manager has chosen the
slices and the first name below the slices; a user may have chosen all further names. Processes are
terminated only in a cgroup that was created for a single kernel.
"""

import asyncio
import contextlib
import os
import signal
from functools import cache
from pathlib import Path

import psutil

from kconnd.core.paths import KERNEL_UNIT_PREFIX
from kconnd.system.process.processes import ProcessId, read_stat, send_signal, wait_for_end

KILL_DELAY_S = 2.0  # the time between SIGTERM and SIGKILL, as in a shim


def cgroup_of(pid: int) -> str:
    """Return the path of a process's cgroup in the tree that the service manager uses."""
    try:
        rows = Path(f"/proc/{pid}/cgroup").read_bytes()
    except OSError:
        return ""
    return parse_cgroup(rows, unified=_is_unified())


@cache  # the result does not change until the machine reboots
def _is_unified() -> bool:
    """Check whether the service manager uses the tree of cgroup v2.

    Like systemd itself, this function looks at the mounts.
    """
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def parse_cgroup(rows: bytes, *, unified: bool) -> str:
    """Parse the path of a process's cgroup in the tree that the service manager uses.

    Parameters
    ----------
    rows : bytes
        The content of ``/proc/PID/cgroup``, with one line per tree: ``ID:CONTROLLERS:PATH``.
    unified : bool
        Whether the service manager uses the tree of cgroup v2. If not, the service manager uses the
        v1 tree ``name=systemd``; if there is no line for this v1 tree, the path in the v2 tree is
        returned.
    """
    fields = (row.split(b":", 2) for row in rows.split(b"\n"))
    paths = {row[1]: os.fsdecode(row[2]) for row in fields if len(row) == 3}  # noqa: PLR2004  # cgroups(7)
    unified_path = paths.get(b"", "")
    return unified_path if unified else paths.get(b"name=systemd", unified_path)


def unit_of(pid: int) -> str:
    """Return the unit of the system's service manager that a process is in; empty if unknown.

    A cgroup below the unit can have any name, so the names of such cgroups do not count. For
    example, a user's own service manager runs in a unit and creates cgroups below the unit.
    """
    return unit_in(system_cgroup_of(pid))


def system_cgroup_of(pid: int) -> str:
    """Return a process's cgroup relative to the service manager's root; empty if unknown."""
    return strip_manager_root(cgroup_of(pid), cgroup_of(1))


def strip_manager_root(path: str, manager: str) -> str:
    """Remove the service manager's root from the path of a cgroup.

    In a container, the root of the service manager is a cgroup within the host's tree.

    Parameters
    ----------
    path : str
        The cgroup of a process.
    manager : str
        The cgroup of pid 1.
    """
    return path.removeprefix(manager.removesuffix("/init.scope").rstrip("/"))


def unit_in(path: str) -> str:
    """Return the first part of a cgroup path that is not a slice."""
    return next((part for part in path.split("/") if part and not part.endswith(".slice")), "")


def kernel_cgroup_of(shim: int) -> str:
    """Return the cgroup that was created for the kernel of a shim; empty if there is none.

    If a user starts the daemon in a kernel, the daemon and its shims are in the cgroup of that
    kernel. A cgroup that contains the daemon itself therefore does not count.
    """
    path = cgroup_of(shim)
    is_kernel_unit = path.rpartition("/")[2].startswith(KERNEL_UNIT_PREFIX)
    return path if is_kernel_unit and not _is_below(cgroup_of(os.getpid()), path) else ""


def _is_below(path: str, cgroup: str) -> bool:
    return f"{path}/".startswith(f"{cgroup}/")


def members(cgroup: str) -> list[ProcessId]:
    """List the processes of a cgroup and of the cgroups below it."""
    processes = []
    for pid in psutil.pids():
        if _is_below(cgroup_of(pid), cgroup):
            with contextlib.suppress(OSError):  # the process has ended
                processes.append(ProcessId(pid, read_stat(pid)[2]))
    return processes


async def terminate_members(cgroup: str, kill_delay_s: float = KILL_DELAY_S) -> None:
    """Terminate all processes of a cgroup: with SIGTERM, and after a delay with SIGKILL.

    Raises
    ------
    OSError
        If the processes cannot be listed or signalled, for example without free file descriptors.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        processes = members(cgroup)
        for process in processes:
            with contextlib.suppress(PermissionError):  # a set-uid program of another user
                send_signal(process, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(kill_delay_s):
                for process in processes:
                    await wait_for_end(process)
