"""Folders of marks: empty files that record one fact for each uid.

The front door records in this way which daemons start at boot, and which daemons share kernels by
profiles of their owners. Each daemon reports these facts for its own uid. A folder of marks
outlives a restart of the front door. Only root can enter it, and the uid is the only variable part
of a path in it.
"""

import os
from pathlib import Path

from kconnd.system.files.private import write_private

MARKS_MODE = 0o700  # root alone can enter a folder of marks


class Marks:
    """The marked uids.

    Parameters
    ----------
    folder : Path
        The folder of the marks, as `make_folder` makes it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, uid: int, *, marked: bool) -> None:
        """Mark a uid, or remove its mark."""
        mark = self._folder / str(uid)
        if marked:
            write_private(mark, b"", durable=True)
        else:
            mark.unlink(missing_ok=True)

    def uids(self) -> set[int]:
        """Return the marked uids."""
        return {int(path.name) for path in self._folder.iterdir() if path.name.isdecimal()}


def make_folder(path: Path) -> None:
    """Create a folder that only root can enter."""
    path.mkdir(mode=MARKS_MODE, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o777 != MARKS_MODE:  # chmod would fail on a read-only disk
        os.chmod(path, MARKS_MODE)  # noqa: PTH101  # follows no link: its parent is root's
