"""Detect changes of files and folders by their metadata, and wait until changes have settled.

A file that has just changed may be incomplete, so the reader waits until the change has settled. A
change has settled if one of two conditions holds. The first condition: the change time that the
file system reports is old enough. The second condition: no further change was observed for long
enough. The second condition covers file systems whose clock is wrong.
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
    """The metadata of some paths at one instant.

    Parameters
    ----------
    marks : tuple
        Each path with its metadata. Every change of the content changes the metadata. The metadata
        of a missing path is empty.
    changed_at : float
        The time of the latest change, in seconds since the epoch.
    """

    marks: Marks
    changed_at: float


def stamp_file(path: str) -> Stamp:
    """Read the metadata of a file; a missing file has the change time of its folder."""
    mark = _mark(path)
    return _stamp([(path, mark)], [mark or _mark(str(Path(path).parent))])


def stamp_folder(path: str, counts: Callable[[str], bool]) -> Stamp:
    """Read the metadata of a folder's entries; a missing folder equals an empty folder.

    Parameters
    ----------
    path : str
        The folder. The change time of the folder itself covers removed entries.
    counts : callable
        A function that selects entries by name. It can exclude an editor's temporary files, for
        example.
    """
    try:
        with os.scandir(path) as entries:
            marks = sorted(
                (entry.name, _mark(entry.path)) for entry in entries if counts(entry.name)
            )
        status = os.stat(path)  # noqa: PTH116  # os.scandir takes text as well
    except OSError:
        return stamp_file(path)
    # The owner and the mode are included, because they decide who may add files.
    own_mark = (status.st_ino, status.st_mode, status.st_uid, status.st_gid)
    return _stamp([*marks, (path, own_mark)], [*(mark for _, mark in marks), _mark(path)])


def _stamp(marks: list[tuple[str, Mark]], dated: Iterable[Mark]) -> Stamp:
    times = [mark[0] / 1e9 for mark in dated if mark]
    return Stamp(tuple(marks), max(times, default=0.0))


def _mark(path: str) -> Mark:
    """Return a file's change time, size and inode; every write changes at least one of them."""
    try:
        status = os.stat(path)  # noqa: PTH116  # a name from os.scandir
    except OSError:
        return ()
    return status.st_ctime_ns, status.st_size, status.st_ino


class Settling:
    """Decides whether the changes of a file or folder have settled.

    Parameters
    ----------
    clock, wall_clock : callable
        A function that returns monotonic seconds, and one that returns seconds since the epoch.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock, self._wall_clock = clock, wall_clock
        self._stamp: Stamp | None = None
        self._unchanged_since = 0.0

    def is_settled(self, stamp: Stamp, delay_s: float) -> bool:
        """Check whether the paths of a new stamp have been unchanged for ``delay_s`` seconds."""
        now = self._clock()
        if stamp != self._stamp:
            self._stamp, self._unchanged_since = stamp, now
        is_unchanged = now - self._unchanged_since >= delay_s
        return is_unchanged or self._wall_clock() - stamp.changed_at >= delay_s
