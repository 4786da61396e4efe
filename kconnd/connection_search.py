"""Finds connection files by a kernel's name, by a pattern or by a path.

If ``KCONND_SOCKET`` names the socket of a daemon, the folders of this daemon are searched first.
Then all folders are searched in which a daemon of this user or Jupyter keeps connection files. A
name or a pattern finds only files of this user. A path leads to any file, because the caller is
responsible for the choice.
"""

import contextlib
import fnmatch
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from jupyter_core.paths import jupyter_runtime_dir

from kconnd.client import Client, has_front_door
from kconnd.core import paths
from kconnd.core.launch.kernel_files import (
    connection_file_name,
    kernel_of_connection_file,
    live_dir,
)
from kconnd.core.names import kernel_name
from kconnd.errors import KconndError, UsageError
from kconnd.private_tmp import fallback_folders
from kconnd.system.machine import own_user

VARIABLE = "KCONND_CONNECTION_FILE"
HEALTH_LIMIT_S = 2.0  # for a daemon that may hang


def inherited_file() -> str | None:
    """Return the path in `VARIABLE`; a kernel that was kept warm may have inherited a link."""
    path = os.environ.get(VARIABLE) or None
    return os.path.realpath(path) if path and Path(path).is_symlink() else path


def kernel_and_socket(path: str) -> tuple[str, str]:
    """Return the kernel's name and the daemon's socket for a connection file of kconnd.

    The socket is ``""`` if the folder of the file contains no daemon's socket. For a connection
    file that is not of kconnd, both are ``""``.
    """
    file = Path(path).absolute()
    socket = file.with_name(paths.SOCKET_NAME)
    is_ours = file.name == connection_file_name(kernel_of_connection_file(file.name))
    if not is_ours or not Path(live_dir(str(file.parent))).is_dir():
        return "", ""
    return kernel_of_connection_file(file.name), str(socket) if socket.is_socket() else ""


def find_file(wanted: str) -> str:
    """Return the absolute path of a connection file.

    Parameters
    ----------
    wanted : str
        A kernel's name, Jupyter's name of its kernel spec, a file's name, a pattern, or a path with
        a ``/`` in it. If several files match, the newest is returned.

    Raises
    ------
    OSError
        If no file matches; the message lists the searched folders.
    """
    if os.sep in wanted:  # a path; the caller is responsible for the choice
        if not Path(wanted).is_file():
            raise FileNotFoundError(f"there is no connection file {wanted}")
        return str(Path(wanted).absolute())
    exact = [wanted, *map(connection_file_name, _names(wanted))]
    own, others = _folders_of_socket(), _folders()
    for folders in (own, others):
        for pattern in (*exact, f"*{wanted}*"):
            files = [path for folder in folders for path in _ours(folder, pattern)]
            if files:
                return str(max(files, key=lambda path: path.stat().st_mtime))
    looked = ", ".join(map(str, dict.fromkeys([*own, *others])))
    raise FileNotFoundError(f"no connection file of yours fits {wanted!r}; looked in {looked}")


def _names(wanted: str) -> list[str]:
    """Return the name that a user gives, and the kernel's name if the former is Jupyter's name."""
    with contextlib.suppress(UsageError):
        return list(dict.fromkeys([wanted, kernel_name(wanted)]))
    return [wanted]


def _folders_of_socket() -> list[Path]:
    """List the folders of the daemon that ``KCONND_SOCKET`` names; they have precedence.

    By default, the socket is in the folder of the connection files, so the folder of the socket
    comes first. The second folder is the one that the daemon reports.
    """
    socket = os.environ.get("KCONND_SOCKET")
    if not socket:
        return []
    folders = [Path(socket).absolute().parent]
    with contextlib.suppress(KconndError, KeyError):  # the front door has no such folder
        health = Client(socket).get("/v1/health", limit=HEALTH_LIMIT_S)
        folders.append(Path(health["runtime_dir"]))
    return folders


def _folders() -> list[Path]:
    """List the folders of this user's connection files; the current folder is not searched."""
    user = own_user()
    on_server = [Path(paths.owner_folder(user.uid))] if has_front_door() else []
    ours = [Path(paths.runtime_dir(os.environ, user.uid, lingers=yes)) for yes in (True, False)]
    ours += map(Path, fallback_folders(user.uid))
    current = inherited_file()
    if current:
        ours.append(Path(current).parent)
    return list(dict.fromkeys([*on_server, *ours, Path(jupyter_runtime_dir())]))


def _ours(folder: Path, pattern: str) -> Iterator[Path]:
    """Yield the matching files that belong to this user."""
    try:
        about = folder.stat()
        if about.st_uid not in {os.geteuid(), 0} or about.st_mode & 0o022:
            return
        names = sorted(path for path in folder.iterdir() if path.suffix == ".json")
    except OSError:
        return
    for path in names:
        try:
            found = path.lstat()
        except OSError:
            continue  # the file was removed in the meantime
        ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
        if ours and fnmatch.fnmatchcase(path.name, pattern):
            yield path
