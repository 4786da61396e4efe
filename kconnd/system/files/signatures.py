"""Detect changes of files that a process has read, with one stat(2) per path.

Rules. In doubt, a file counts as changed. A change time is compared with an earlier change time of
the same file. `first_changed_since` is the only function that compares change times with a clock;
it finds files that changed while the process was reading.
"""

import os

from kconnd.core.launch.warm import FilesRead
from kconnd.programs.zygote.staleness import OwnFolders, signature

CLOCK_TICK_S = 0.02  # a file's change time can be behind the clock by this much


class Signatures:
    """The metadata of the paths that a process has read.

    Parameters
    ----------
    reading : FilesRead
        The paths that the process has read.
    cwd : str
        The working folder of the process, which is also on its module search path.
    """

    def __init__(self, reading: FilesRead, cwd: str) -> None:
        self._signatures = {path: signature(path) for path in reading.places}
        self._folders = OwnFolders({*reading.folders, cwd}, reading.names)

    def first_changed_since(self, time: float) -> str:
        """Return a path that changed after ``time``, in seconds since the epoch.

        The result is ``""`` if no path changed.
        """
        limit = time - CLOCK_TICK_S
        return next((path for path in self._signatures if _changed_at(path) > limit), "")

    def first_changed(self) -> str:
        """Return a path that has changed since the signatures were taken; ``""`` if none has."""
        for path, original in self._signatures.items():
            if signature(path) != original:
                return path
        return self._folders.changed() or ""


def _changed_at(path: str) -> float:
    try:
        return os.stat(path).st_ctime  # noqa: PTH116  # hundreds of paths, and Path is slower
    except OSError:
        return 0.0
