"""The folder below /tmp for sockets and connection files, where nobody may have taken its name.

``/tmp/kconnd-UID`` is a name that any user of the machine can take first. The daemon then makes
``/tmp/kconnd-UID-RANDOM`` instead. Clients and later daemons find that one again by looking: it
is a folder of the user with mode 0700, and nobody else can make one. Nothing has to be recorded,
so a full disk or a state folder elsewhere does not matter.

Rules. Standard library only, and cheap: a look-up of `kconnd.client` runs this. A folder that
another user owns, a file or a link under the name counts as taken; it is never followed.
"""

from __future__ import annotations

import os

TMP = "/tmp"  # noqa: S108  # owner and mode of what is used there are verified
RANDOM_BYTES = 8
_TYPE, _DIRECTORY, _OTHERS = 0o170000, 0o040000, 0o077  # inode(7); the module stat costs a look-up


def is_own(path: str, uid: int) -> bool:
    """Tell whether a path is a folder of a user that nobody else can enter."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    mode = found.st_mode
    return mode & _TYPE == _DIRECTORY and found.st_uid == uid and not mode & _OTHERS


def is_occupied(path: str, uid: int) -> bool:
    """Tell whether something of another user, or no folder, has a path's name."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return found.st_uid != uid or found.st_mode & _TYPE != _DIRECTORY


def fallback_folders(uid: int, tmp: str = TMP) -> list[str]:
    """List the folders of a user that stand in for the one whose name was taken.

    The first one is the one that a daemon uses.
    """
    start = f"kconnd-{uid}-"
    try:
        found = os.listdir(tmp)  # noqa: PTH208  # pathlib costs a look-up more than all of this
    except OSError:
        return []
    length = len(start) + 2 * RANDOM_BYTES
    names = sorted(name for name in found if name.startswith(start) and len(name) == length)
    return [path for path in (f"{tmp}/{name}" for name in names) if is_own(path, uid)]


def choose_folder(uid: int, tmp: str = TMP) -> str:
    """Choose the folder below /tmp for a daemon; the caller makes it, private, where missing.

    A stand-in goes first as long as it is there: connection files of live kernels are in it.
    """
    usual = f"{tmp}/kconnd-{uid}"
    if found := fallback_folders(uid, tmp):
        return found[0]
    if not is_occupied(usual, uid):
        return usual
    return f"{usual}-{os.urandom(RANDOM_BYTES).hex()}"


def is_fallback(folder: str, tmp: str = TMP) -> bool:
    """Tell whether a folder is one that stands in for the usual one."""
    return folder in fallback_folders(os.geteuid(), tmp)


def resolve_folder(folder: str, uid: int) -> str:
    """Give a folder that `kconnd.core.paths.runtime_dir` chose, or its stand-in below /tmp."""
    return choose_folder(uid) if folder == f"{TMP}/kconnd-{uid}" else folder
