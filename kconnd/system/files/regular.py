"""Reads files at paths that somebody else names: a profile, a kernel spec, a user, a kernel.

Such a path can lead to a named pipe (to open it waits for a writer), to a device (to open it may
rewind a tape or start a watchdog), or to a file without end. So the type is checked before the
file is opened and again on the descriptor, it is opened without blocking, and no more is read than
was asked for. A file server that hangs is another matter: see `kconnd.system.hung_calls`.
"""

import errno
import os
import stat

MAX_OWN_BYTES = 4 << 20  # of a file that we wrote, and that may have been exchanged
READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


class NotRegularError(OSError):
    """What a path leads to is no regular file."""

    def __init__(self, path: object, mode: int) -> None:
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        super().__init__(number, f"it is {kind}, not a regular file", str(path))


class TooLargeError(OSError):
    """A file is larger than its reader takes."""

    def __init__(self, path: object, most_bytes: int) -> None:
        super().__init__(errno.EFBIG, f"it is larger than {most_bytes} bytes", str(path))


def open_regular(path: str | os.PathLike[str]) -> int:
    """Open a regular file for reading, and give its descriptor.

    Raises
    ------
    NotRegularError
        If it is anything else.
    OSError
        If it cannot be opened.
    """
    _check(path, os.stat(path).st_mode)  # noqa: PTH116  # a name from os.listdir, too
    file = os.open(path, READ)
    try:
        _check(path, os.fstat(file).st_mode)
    except BaseException:
        os.close(file)
        raise
    return file


def read_regular(path: str | os.PathLike[str], most_bytes: int) -> bytes:
    """Read a regular file whole.

    Raises
    ------
    TooLargeError
        If it has more bytes than that.
    NotRegularError, OSError
        As `open_regular`.
    """
    with open(open_regular(path), "rb") as stream:  # a descriptor
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise TooLargeError(path, most_bytes)
    return content


def _check(path: object, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise NotRegularError(path, mode)
