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
    for process in descendants(root):
        folder = Path(f"/proc/{process.pid}")
        try:
            if _view_of(folder) != own_view:
                seen = os.stat(f"{folder}/root{seen_as}")  # noqa: PTH116  # pathlib cuts the link
                if not os.path.samestat(seen, file.stat()):
                    return True
        except (FileNotFoundError, NotADirectoryError):
            if folder.exists():
                return True
        except OSError:
            continue
    return False


def _view_of(folder: Path) -> tuple[Path, Path]:
    return (folder / "ns/mnt").readlink(), (folder / "root").readlink()
