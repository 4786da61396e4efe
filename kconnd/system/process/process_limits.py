"""Reads the limits that are in force for a process: of its control groups, and of open files.

The limits are read back after a start, because a service manager that has accepted a limit need
not enforce it: a controller may be missing, or not delegated to the user (cgroups(7)).
"""

import resource
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


def read_limits(shim: int, kernel: int) -> dict[str, float]:
    """Read the limits of a kernel with the keys of ``limits`` in a profile.

    A limit that cannot be read is missing from the result.

    Parameters
    ----------
    shim : int
        The pid of the shim, whose control group is the kernel's.
    kernel : int
        The pid of the kernel.
    """
    try:
        limits = read_cgroup_limits(Path(f"/proc/{shim}/cgroup").read_text(errors="replace"))
    except OSError:
        limits = {}
    try:
        limits["open_files"] = resource.prlimit(kernel, resource.RLIMIT_NOFILE)[0]
    except OSError:  # it has exited, or has become a process of another user
        return limits
    if limits["open_files"] == resource.RLIM_INFINITY:
        del limits["open_files"]
    return limits


def read_cgroup_limits(rows: str, root: Path = CGROUP_ROOT) -> dict[str, float]:
    """Read the limits of a process's control groups.

    Parameters
    ----------
    rows : str
        The content of ``/proc/PID/cgroup``, with one line per tree: ``ID:CONTROLLERS:PATH``.
    root : Path
        The folder with the trees of control groups.
    """
    folders = _folders(rows, root)
    limits: dict[str, float] = {}
    for key, read in (("memory", _memory), ("cpu", _cpu), ("tasks", _tasks)):
        controller = "pids" if key == "tasks" else key
        folder = folders.get(controller, folders.get(""))
        if folder is not None and (limit := read(folder)) is not None:
            limits[key] = limit
    return limits


def _folders(rows: str, root: Path) -> dict[str, Path]:
    """Return the folder of a process's control group by controller; ``""`` is cgroup v2."""
    folders = {}
    for row in rows.splitlines():
        _, names, path = row.split(":", 2)
        if names:
            for name in names.split(","):
                folders[name] = Path(f"{root}/{name}{path}")
        elif (root / "cgroup.controllers").exists():
            folders[""] = Path(f"{root}{path}")
    return folders


def _memory(folder: Path) -> float | None:
    return _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")


def _tasks(folder: Path) -> float | None:
    return _number(folder / "pids.max")


def _cpu(folder: Path) -> float | None:
    words = _words(folder / "cpu.max")
    if len(words) != 2:  # noqa: PLR2004  # quota and period
        words = _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
    try:
        quota, period = map(int, words)
    except ValueError:  # the quota is ``max``, or the files do not exist
        return None
    return quota / period if quota > 0 else None


def _number(file: Path) -> float | None:
    """Read a limit; None if the file does not exist or contains ``max``."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
