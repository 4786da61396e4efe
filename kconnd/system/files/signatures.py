"""Whether what a process has read is still on disk as it was: a stat for each place.

Rules. What cannot be told to be the same is not. A time of the file system is compared with
others of it, and with a clock only to see what changed while the process was just reading.
"""

import os

from kconnd.core.launch.warm import Reading
from kconnd.programs.zygote.staleness import OwnFolders, signature

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
        self._places = {path: signature(path) for path in reading.places}
        self._folders = OwnFolders({*reading.folders, cwd}, reading.names)

    def changed_since(self, moment: float) -> str:
        """Name a place that was changed after a moment, in seconds since the epoch, or ``""``."""
        return next((path for path in self._places if _changed_at(path) > moment - TICK), "")

    def changed(self) -> str:
        """Name a place that is not as it was, or ``""``."""
        for path, before in self._places.items():
            if signature(path) != before:
                return path
        return self._folders.changed() or ""


def _changed_at(path: str) -> float:
    try:
        return os.stat(path).st_ctime  # noqa: PTH116  # as above
    except OSError:
        return 0.0
