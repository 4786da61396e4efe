"""Files that say what is run or who may do what: read only if nobody else could have written them.

A file is opened once and judged by its descriptor, so that it cannot be exchanged in between.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from kconnd.errors import UnsafePathError

_LARGEST_FILE = 1 << 20
_OTHERS_WRITE = stat.S_IWOTH
_GROUP_WRITES = stat.S_IWGRP


@contextmanager
def opened(path: str, flags: int, folder: int | None = None) -> Iterator[int]:
    """Open for reading; a pipe does not block here, and is refused by its type.

    So is a device, before it is opened: that alone can do something, to a tape or a watchdog.
    """
    if not flags & os.O_DIRECTORY:
        _check_regular(os.stat(path, dir_fd=folder))  # Path takes no descriptor
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags, dir_fd=folder)
    try:
        yield fd
    finally:
        os.close(fd)


def check_folder(folder: int, uid: int) -> None:
    """Refuse a folder in which anybody can exchange files.

    A sticky one protects the files of its users from each other, so it does for a user's own
    profile. It does not keep others from adding one, nor its owner from removing one: what root
    reads says what holds for everybody, and its folder has to be root's alone.
    """
    about = os.fstat(folder)
    mode = about.st_mode
    sticky = bool(mode & stat.S_ISVTX) and uid != 0
    if about.st_uid not in {0, uid} and not sticky:
        message = f"the folder belongs to uid {about.st_uid}, and uid {uid} is reading"
        raise UnsafePathError(message, hint="a folder of profiles has to be one's own, or root's")
    if mode & _OTHERS_WRITE and not sticky:
        raise UnsafePathError("everybody may write to the folder", hint="chmod o-w on the folder")
    if uid == 0 and mode & _GROUP_WRITES and about.st_gid != 0:
        message = f"group {about.st_gid} may write to the folder, and root is reading"
        raise UnsafePathError(message, hint="chmod g-w on the folder")


def read_trusted(fd: int, uid: int) -> bytes:
    """Read a file that only its reader or root can have written, up to 1 MiB."""
    about = os.fstat(fd)
    _check_regular(about)
    if about.st_uid not in {0, uid}:
        message = f"belongs to uid {about.st_uid}, and uid {uid} is reading"
        raise UnsafePathError(message, hint="a profile has to be one's own, or root's")
    if about.st_mode & _OTHERS_WRITE:
        raise UnsafePathError("everybody may write to it", hint="chmod o-w on the file")
    if uid == 0 and about.st_mode & _GROUP_WRITES and about.st_gid != 0:
        message = f"group {about.st_gid} may write to it, and root is reading"
        raise UnsafePathError(message, hint="chmod g-w on the file")
    with os.fdopen(os.dup(fd), "rb") as stream:
        content = stream.read(_LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise UnsafePathError("is larger than 1M", hint="split it into several files")
    return content


def _check_regular(about: os.stat_result) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise UnsafePathError("is not a plain file")
