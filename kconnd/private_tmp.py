"""Chooses the private folder below /tmp for sockets and connection files.

Any user of the machine can create ``/tmp/kconnd-UID`` first. In this case, the daemon creates a
fallback folder ``/tmp/kconnd-UID-RANDOM``. Clients and later daemons find the fallback folder by
listing /tmp. They recognise the fallback folder by its owner and its mode 0700. No other user can
create a folder with this owner and mode. The path of the fallback folder is not written to a file
in the state folder: the disk may be full, and a client does not know a state folder that the
daemon's option ``--state-dir`` sets.

Rules. This module is fast and imports the standard library alone, because every run of the client
calls it. A path is occupied if there is a file, a link or another user's folder at the path. An
occupied path is not used.
"""

from __future__ import annotations

import os

TMP = "/tmp"  # noqa: S108  # owner and mode of the folder are verified
RANDOM_BYTES = 8
# The values of inode(7); importing the module stat would slow down each command.
_TYPE, _DIRECTORY, _OTHERS = 0o170000, 0o040000, 0o077


def is_own(path: str, uid: int) -> bool:
    """Return whether a path is a folder of the user that no other user can enter."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    mode = status.st_mode
    return mode & _TYPE == _DIRECTORY and status.st_uid == uid and not mode & _OTHERS


def is_occupied(path: str, uid: int) -> bool:
    """Return whether a path exists and is not a folder of the user."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return status.st_uid != uid or status.st_mode & _TYPE != _DIRECTORY


def fallback_folders(uid: int, tmp: str = TMP) -> list[str]:
    """List the fallback folders of a user; the daemon uses the first."""
    start = f"kconnd-{uid}-"
    try:
        entries = os.listdir(tmp)  # noqa: PTH208  # importing pathlib would cost more than the rest
    except OSError:
        return []
    length = len(start) + 2 * RANDOM_BYTES
    names = sorted(name for name in entries if name.startswith(start) and len(name) == length)
    return [path for path in (f"{tmp}/{name}" for name in names) if is_own(path, uid)]


def choose_folder(uid: int, tmp: str = TMP) -> str:
    """Choose the folder below /tmp for a daemon; the caller creates it with mode 0700.

    If another user has created the folder with the usual name, an earlier daemon has used a
    fallback folder. An existing fallback folder is chosen again, even if the usual name is free
    now, because the fallback folder may contain the connection files of live kernels.
    """
    default = f"{tmp}/kconnd-{uid}"
    if fallbacks := fallback_folders(uid, tmp):
        return fallbacks[0]
    if not is_occupied(default, uid):
        return default
    return f"{default}-{os.urandom(RANDOM_BYTES).hex()}"


def is_fallback(folder: str, tmp: str = TMP) -> bool:
    """Return whether a folder is a fallback folder of this user."""
    return folder in fallback_folders(os.geteuid(), tmp)


def resolve_folder(folder: str, uid: int) -> str:
    """Replace the default folder below /tmp by a usable folder; return other folders unchanged.

    ``folder`` is a result of `kconnd.core.paths.runtime_dir`. See `choose_folder`.
    """
    return choose_folder(uid) if folder == f"{TMP}/kconnd-{uid}" else folder
