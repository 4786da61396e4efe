"""Read files at untrusted paths, which come from a profile, a kernel spec, a user or a kernel.

An untrusted path can lead to a named pipe, a device or an endless file. Opening a named pipe waits
for a writer, and opening a device may rewind a tape or start a watchdog. The type of the file is
therefore checked before the file is opened and again on the descriptor. The file is opened without
blocking, and the number of bytes to read is limited. `kconnd.system.hung_calls` handles the case
that a file server hangs.
"""

import errno
import os
import stat

MAX_OWN_BYTES = 4 << 20  # the limit of kconnd's own files, which a user may have replaced
READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

_KIND_NAMES = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


class NotRegularError(OSError):
    """A path does not lead to a regular file."""

    def __init__(self, path: object, mode: int) -> None:
        kind = _KIND_NAMES.get(stat.S_IFMT(mode), "something else")
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        super().__init__(number, f"it is {kind}, not a regular file", str(path))


class TooLargeError(OSError):
    """A file is larger than its reader's limit."""

    def __init__(self, path: object, max_bytes: int) -> None:
        super().__init__(errno.EFBIG, f"it is larger than {max_bytes} bytes", str(path))


def open_regular(path: str | os.PathLike[str]) -> int:
    """Open a regular file for reading, and return its descriptor.

    Raises
    ------
    NotRegularError
        If the path does not lead to a regular file.
    OSError
        If the file cannot be opened.
    """
    _check(path, os.stat(path).st_mode)  # noqa: PTH116  # the path may be a name from os.listdir
    descriptor = os.open(path, READ_FLAGS)
    try:
        _check(path, os.fstat(descriptor).st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_regular(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """Read the whole content of a regular file.

    Raises
    ------
    TooLargeError
        If the file has more than ``max_bytes`` bytes.
    NotRegularError, OSError
        If `open_regular` raises one of these errors.
    """
    with open(open_regular(path), "rb") as stream:  # `open` also accepts a descriptor
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise TooLargeError(path, max_bytes)
    return content


def _check(path: object, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise NotRegularError(path, mode)
