"""Whether files have changed, and whether they have been left alone since.

Rules. What changed a moment ago may be half written, so nobody acts on it yet. How long a
change is ago is told by the file system, where its clock can be believed, and by how long we
have seen no other.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

Mark = tuple[int, ...]
Marks = tuple[tuple[str, Mark], ...]


@dataclass(frozen=True)
class Stamp:
    """What some paths were at one instant.

    Parameters
    ----------
    marks : tuple
        Each path with what changes whenever its content does; none of it where it is missing.
    changed_at : float
        The latest change, in seconds since the epoch.
    """

    marks: Marks
    changed_at: float


def stamp_file(path: str) -> Stamp:
    """Look at one file; of one that is not there its folder tells since when."""
    mark = _mark(path)
    return _stamp([(path, mark)], [mark or _mark(str(Path(path).parent))])


def stamp_folder(path: str, counts: Callable[[str], bool]) -> Stamp:
    """Look at a folder; one that is not there is like an empty one.

    ``counts`` tells by its name what in it counts: others may come and go, such as those of an
    editor. That one has gone is dated by the folder, like whatever else was done in it then.
    """
    try:
        with os.scandir(path) as entries:
            found = sorted((one.name, _mark(one.path)) for one in entries if counts(one.name))
        about = os.stat(path)  # noqa: PTH116  # as below
    except OSError:
        return stamp_file(path)
    itself = (about.st_ino, about.st_mode, about.st_uid, about.st_gid)  # who may write there
    return _stamp([*found, (path, itself)], [*(mark for _, mark in found), _mark(path)])


def _stamp(marks: list[tuple[str, Mark]], dated: Iterable[Mark]) -> Stamp:
    times = [mark[0] / 1e9 for mark in dated if mark]
    return Stamp(tuple(marks), max(times, default=0.0))


def _mark(path: str) -> Mark:
    """Give change time, length and number of a file: what no writer leaves as it was."""
    try:
        about = os.stat(path)  # noqa: PTH116  # also of a name that scandir gave
    except OSError:
        return ()
    return about.st_ctime_ns, about.st_size, about.st_ino


class Settling:
    """Tells whether what was seen has been left alone for long enough.

    Parameters
    ----------
    clock, wall_clock : callable
        Monotonic seconds, and seconds since the epoch.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock, self._wall_clock = clock, wall_clock
        self._stamp: Stamp | None = None
        self._since = 0.0

    def rests(self, stamp: Stamp, quiet: float) -> bool:
        """Tell whether nothing has changed for ``quiet`` seconds."""
        now = self._clock()
        if stamp != self._stamp:
            self._stamp, self._since = stamp, now
        return now - self._since >= quiet or self._wall_clock() - stamp.changed_at >= quiet
