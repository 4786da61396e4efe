"""Whether what a process has read is still on disk as it was: a stat for each place.

Rules. What cannot be told to be the same is not. A time of the file system is compared with
others of it, and with a clock only to see what changed while the process was just reading.
"""

import os

from kconnd.core.warm import Reading

State = tuple[int, int, int]
TICK = 0.02  # seconds by which the time that a file gets can be behind the clock


class Signatures:
    """The state in which a process has found the places that it read.

    Parameters
    ----------
    reading : Reading
        What it has read.
    cwd : str
        Its working folder, where modules are looked for, too.
    """

    def __init__(self, reading: Reading, cwd: str) -> None:
        self._names = reading.names
        self._places = {path: _state(path) for path in reading.places}
        self._folders = {
            path: (_state(path), self._hiding(path)) for path in {*reading.folders, cwd}
        }

    def changed_since(self, moment: float) -> str:
        """Name a place that was changed after a moment, in seconds since the epoch, or ``""``."""
        return next((path for path in self._places if _changed_at(path) > moment - TICK), "")

    def changed(self) -> str:
        """Name a place that is not as it was, or ``""``."""
        for path, before in self._places.items():
            if _state(path) != before:
                return path
        for path, (before, hiding) in self._folders.items():
            now = _state(path)
            if now == before:
                continue
            if now is None or before is None or now[1] != before[1]:
                return path
            if self._hiding(path) != hiding:
                return path
            self._folders[path] = now, hiding  # so that it is not listed again each time
        return ""

    def _hiding(self, folder: str) -> frozenset[str]:
        """List what would be imported from a folder in the place of what was imported."""
        try:
            found = os.listdir(folder)  # noqa: PTH208  # names alone are wanted
        except OSError:
            return frozenset()
        return frozenset(name for name in found if name.partition(".")[0] in self._names)


def _state(path: str) -> State | None:
    """Tell one state of a file or folder from another."""
    try:
        about = os.stat(path)  # noqa: PTH116  # hundreds at a time
    except OSError:
        return None
    return about.st_mtime_ns, about.st_ino, about.st_size


def _changed_at(path: str) -> float:
    try:
        return os.stat(path).st_ctime  # noqa: PTH116  # as above
    except OSError:
        return 0.0
