"""The available memory of the machine, within the limits of this process's cgroups."""

from collections.abc import Iterator
from pathlib import Path

import psutil

OWN_CGROUP, CGROUP_ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Return the bytes that can be allocated without swapping or exceeding a cgroup's limit."""
    return min([psutil.virtual_memory().available, *available_in_cgroups()])


def available_in_cgroups(place: Path = OWN_CGROUP, root: Path = CGROUP_ROOT) -> Iterator[int]:
    """Yield the bytes that this process's cgroup, and each ancestor of the cgroup, can allocate.

    Cgroups without a limit are omitted (cgroups(7), v1 and v2).
    """
    try:
        rows = place.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for row in rows:
        _, controllers, path = row.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        is_v1 = bool(controllers)
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        limit, usage = names if is_v1 else ("memory.max", "memory.current")
        top = root / "memory" if is_v1 else root
        cgroup = top / path.lstrip("/")
        for folder in (cgroup, *cgroup.parents):
            if folder == root or not folder.is_relative_to(top):
                break
            free_bytes = _free_bytes(folder, limit, usage)
            if free_bytes is not None:
                yield free_bytes


def _free_bytes(folder: Path, limit: str, usage: str) -> int | None:
    try:
        return int((folder / limit).read_text()) - int((folder / usage).read_text())
    except (OSError, ValueError):
        return None  # the controller is absent, or the limit is "max"
