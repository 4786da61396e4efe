"""Read files of profiles and settings; refuse a file that an untrusted user can write.

Profiles decide which programs run and who has access. A file is opened once and checked by its
descriptor, so that nobody can replace the file between the check and the read.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from kconnd.errors import UnsafePathError

MAX_FILE_BYTES = 1 << 20


@contextmanager
def open_unblocked(path: str, flags: int, folder: int | None = None) -> Iterator[int]:
    """Open a regular file or a folder for reading, without blocking.

    The file type is checked before the file is opened. Opening a named pipe would block, and
    opening a device can have a side effect, for example on a tape or a watchdog.

    Parameters
    ----------
    path : str
        The path, relative to ``folder``.
    flags : int
        Flags of open(2). With ``O_DIRECTORY``, the path must be a folder, else a regular file.
    folder : int, optional
        The descriptor of the folder that ``path`` is relative to.
    """
    if not flags & os.O_DIRECTORY:
        _check_regular(os.stat(path, dir_fd=folder))  # `Path.stat` accepts no descriptor
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def check_folder(folder: int, uid: int) -> None:
    """Refuse a folder in which another user can replace files.

    For a reader other than root, a folder with the sticky bit is accepted: the sticky bit allows
    other users to add files, but not to replace the reader's files. If root reads the folder, the
    files in it apply to all users, so root must be the only user who can write to the folder.

    Raises
    ------
    UnsafePathError
        If another user can replace files.
    """
    status = os.fstat(folder)
    is_protected = bool(status.st_mode & stat.S_ISVTX) and uid != 0
    if status.st_uid not in {0, uid} and not is_protected:
        raise UnsafePathError(
            f"the folder belongs to uid {status.st_uid}, and uid {uid} is reading",
            hint="a folder of profiles must belong to its reader or to root",
        )
    if status.st_mode & stat.S_IWOTH and not is_protected:
        raise UnsafePathError("all users may write to the folder", hint="chmod o-w on the folder")
    _check_group(status, uid, "folder")


def read_trusted(descriptor: int, uid: int) -> bytes:
    """Read a file; refuse the file if any user except the reader and root can write it.

    Raises
    ------
    UnsafePathError
        If another user can write the file, or if the file is larger than 1 MiB.
    """
    status = os.fstat(descriptor)
    _check_regular(status)
    if status.st_uid not in {0, uid}:
        raise UnsafePathError(
            f"the file belongs to uid {status.st_uid}, and uid {uid} is reading",
            hint="a profile must belong to its reader or to root",
        )
    if status.st_mode & stat.S_IWOTH:
        raise UnsafePathError("all users may write to the file", hint="chmod o-w on the file")
    _check_group(status, uid, "file")
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        content = stream.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise UnsafePathError("the file is larger than 1M", hint="split it into several files")
    return content


def _check_group(status: os.stat_result, uid: int, kind: str) -> None:
    if uid == 0 and status.st_mode & stat.S_IWGRP and status.st_gid != 0:
        raise UnsafePathError(
            f"group {status.st_gid} may write to the {kind}, and root is reading",
            hint=f"chmod g-w on the {kind}",
        )


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UnsafePathError("it is not a regular file")
