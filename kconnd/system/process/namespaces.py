"""Checks whether a kernel's processes see a file: they may have other mounts or another root."""

import os
from pathlib import Path

from kconnd.system.process.processes import ProcessId, descendants


def hides_file(root: ProcessId, file: Path, seen_as: str) -> bool:
    """Return whether a process below ``root`` has another view of the files, without this file.

    A kernel that does not find its connection file can have written another file at the path.

    Parameters
    ----------
    root : ProcessId
        The common ancestor of the processes.
    file : Path
        The file.
    seen_as : str
        The path at which the processes should see the file.

    Returns
    -------
    bool
        False if the view cannot be examined, for example that of another user's process.
    """
    own_view = _view_of(Path("/proc/self"))
    folders = (Path(f"/proc/{process.pid}") for process in descendants(root))
    return any(_hides(folder, file, seen_as, own_view) for folder in folders)


def _hides(folder: Path, file: Path, seen_as: str, own_view: tuple[Path, Path]) -> bool:
    try:
        if _view_of(folder) == own_view:
            return False
        try:
            seen = os.stat(f"{folder}/root{seen_as}")  # noqa: PTH116  # pathlib cuts the link
            return not os.path.samestat(seen, file.stat())
        except (FileNotFoundError, NotADirectoryError):
            _view_of(folder)  # raises an error if the process has exited meanwhile
            return True
    except OSError:  # another user's process, or one that has exited
        return False


def _view_of(folder: Path) -> tuple[Path, Path]:
    return (folder / "ns/mnt").readlink(), (folder / "root").readlink()
