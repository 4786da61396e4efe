"""How much memory a further process may have: the machine's, and what our cgroups allow."""

from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Give the bytes that can be had without swapping or going over a limit above us."""
    return min([psutil.virtual_memory().available, *_left_in_cgroups()])


def _left_in_cgroups() -> Iterator[int]:
    """Give what each cgroup from our own upwards has left (cgroups(7), v1 and v2)."""
    try:
        rows = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for row in rows:
        _, controllers, path = row.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        kind = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ()
        top = ROOT / "memory" if controllers else ROOT
        folder = top / path.lstrip("/")
        for place in (folder, *folder.parents):
            if place == ROOT or not place.is_relative_to(top):
                break
            left = _left(place, *(kind or ("memory.max", "memory.current")))
            if left is not None:
                yield left


def _left(folder: Path, limit: str, used: str) -> int | None:
    try:
        return int((folder / limit).read_text()) - int((folder / used).read_text())
    except (OSError, ValueError):
        return None  # no such controller here, or "max"
