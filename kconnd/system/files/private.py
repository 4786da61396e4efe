"""Files that hold secrets or that a crash must not leave half written.

Rules: private (0600) from the first byte; complete or absent at every instant; a symlink is
never followed at the last step; a folder is used only if no other user could have had a hand
in it; the folder that a file goes to is never changed.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from kconnd.errors import LockedError, UnsafePathError
from kconnd.system.files.regular import open_regular

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of renameat2(2), which no module of Python's has

_PART = re.compile(r"\..+\.[0-9a-f]{8}")  # the name of a file while it is written


def ensure_private_dir(path: Path) -> None:
    """Make a folder that only we can enter, or make sure that it is one.

    Raises
    ------
    UnsafePathError
        If it is somebody else's, a symlink, or open to others.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        trouble = "it is not a folder"
    elif found.st_uid != os.geteuid():
        trouble = f"it belongs to uid {found.st_uid}"
    elif found.st_mode & 0o077:
        trouble = f"its mode is {stat.S_IMODE(found.st_mode):04o}, so others can enter it"
    else:
        return
    raise UnsafePathError(
        f"using the folder {path}: {trouble}",
        hint=f"have it removed, or make it yours alone: chown {os.geteuid()} and chmod 700",
    )


def write_private(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file of mode 0600 whole, in the place of what was there.

    Parameters
    ----------
    path : Path
        Where to; a symlink there is replaced, not followed.
    content : bytes
        All of it.
    durable : bool
        Whether it must survive a crash of the machine, at the cost of an fsync.
    """
    with _part_of(path, content, durable=durable) as part:
        part.rename(path)


def exchange_private(path: Path, content: bytes) -> Path | None:
    """Do the same, and keep what was there before, where the file system can (renameat2(2)).

    To replace a file can have all of the new one sent to the disk at once (ext4(5),
    ``auto_da_alloc``), which takes longer than all else; to exchange two names does not. Until
    `flush` has, a crash of the machine can leave the new one empty.

    Returns
    -------
    Path, optional
        Where that is now, for whoever called to remove.
    """
    with _part_of(path, content) as part:
        # A file alone: a folder that is in the way is to stay there, and what was linked to.
        if path.is_file() and not path.is_symlink() and exchange(part, path):
            return part
        part.rename(path)
    return None


@contextlib.contextmanager
def _part_of(path: Path, content: bytes, *, durable: bool = False) -> Iterator[Path]:
    """Write a file that is to get its name; it is removed again should that fail."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(part, flags, 0o600)
    try:
        try:
            _write_all(file, content)
            if durable:
                os.fsync(file)
        finally:
            os.close(file)
        yield part
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@cache
def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    return getattr(ctypes.CDLL(None), "renameat2", None)  # of glibc since 2.28


def exchange(one: Path, other: Path) -> bool:
    """Have two files take each other's names; false where that cannot be done."""
    call = _renameat2()
    names = (AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other))
    sys.audit("os.rename", one, other, -1, -1)  # as what does it in os tells of it
    return call is not None and call(*names, RENAME_EXCHANGE) == 0


def _write_all(file: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]


def flush(path: Path) -> None:
    """Have a file written to disk, and that it has this name.

    Raises
    ------
    OSError
        If that fails. A file that is gone need not be written.
    """
    with contextlib.suppress(FileNotFoundError):
        for place in (path, path.parent):
            file = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fsync(file)
            finally:
                os.close(file)


def is_private(path: Path, content: bytes) -> bool:
    """Tell whether a file is there as `write_private` would write it, which takes far longer."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with os.fdopen(file, "rb") as stream:
        found = os.fstat(file)
        ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
        alone = stat.S_IMODE(found.st_mode) == 0o600 and found.st_nlink == 1  # noqa: PLR2004
        return ours and alone and stream.read(len(content) + 1) == content


def try_to_write(folder: Path, size: int) -> None:
    """Write so many bytes into a folder, and remove them again.

    Raises
    ------
    OSError
        If there is no room for them, or they may not be written.
    """
    with _part_of(folder / "trial", os.urandom(size)) as part:
        part.unlink()


def remove_parts(folder: Path) -> None:
    """Remove what a process left in a folder that died while it wrote a file there."""
    for path in folder.glob(".*"):
        if is_part(path.name):
            path.unlink(missing_ok=True)


def is_part(name: str) -> bool:
    """Tell whether a file has the name that one has while it is written."""
    return _PART.fullmatch(name) is not None


def read_tail(path: Path, limit: int) -> str:
    """Read the last bytes of a text file; ``""`` where there is none."""
    try:
        with os.fdopen(open_regular(path), "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - limit))
            return stream.read(limit).decode(errors="replace")
    except OSError:
        return ""


def take_lock(path: Path, note: str = "") -> int:
    """Lock a file and give its open descriptor; closing that, or our death, unlocks it.

    Parameters
    ----------
    path : Path
        Made where it is missing.
    note : str
        Who holds it, for the next who tries; the first line of it is shown.

    Raises
    ------
    LockedError
        If another process holds it; the text says who.
    """
    file = _open_lock(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with contextlib.suppress(OSError):  # a full disk: the lock itself is what counts
            os.ftruncate(file, 0)
            os.pwrite(file, note.encode(), 0)
    except BlockingIOError:
        said = os.pread(file, 200, 0).decode(errors="replace").partition("\n")[0]
        holder = said if said and not said.startswith("{") else "another process"
        os.close(file)
        raise LockedError(f"locking {path}: {holder} holds it") from None
    except BaseException:
        os.close(file)
        raise
    return file


def _open_lock(path: Path) -> int:
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | flags)  # it can be locked all the same


def is_locked(path: Path) -> bool:
    """Tell whether some process holds a lock, without taking it for longer than it takes.

    It is shared meanwhile: over NFS a file that is open for reading cannot be locked otherwise.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False
