"""Files that contain secrets or that must be complete after a crash.

Rules.

- A file has mode 0600 from its first byte.
- A file is complete or absent at every instant: it is written under a temporary name and renamed.
- A symlink in the last part of a path is never followed.
- A folder is used only if no other user can create files in it.
- The mode and the owner of an existing folder are never changed.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from kconnd.errors import LockedError, UnsafePathError
from kconnd.system.files.regular import open_regular

_TEMPORARY_NAME = re.compile(r"\..+\.[0-9a-f]{8}")


def ensure_private_dir(path: Path) -> None:
    """Create a folder with mode 0700, or check that an existing folder is private.

    Raises
    ------
    UnsafePathError
        If the folder belongs to another user, is a symlink, or has a mode that lets others enter.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        trouble, cure = "it is not a folder", f"mv {path} {path}.old moves it out of the way"
    elif status.st_uid != os.geteuid():
        trouble = f"it belongs to uid {status.st_uid}"
        cure = f"root can move it out of the way: mv {path} {path}.old"
    elif status.st_mode & 0o077:
        trouble = f"its mode is {stat.S_IMODE(status.st_mode):04o}, so others can enter it"
        cure = f"chmod 700 {path} makes it private"
    else:
        return
    raise UnsafePathError(f"using the folder {path}: {trouble}", hint=cure)


def write_private(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file of mode 0600, and replace an existing file atomically.

    Parameters
    ----------
    path : Path
        The file's final path. A symlink at this path is replaced, not followed.
    content : bytes
        The whole content.
    durable : bool
        Whether to call fsync(2), so that the file survives a crash of the machine.
    """
    with _temporary_file(path, content, durable=durable) as temporary:
        temporary.rename(path)


def replace_private(path: Path, content: bytes) -> Path | None:
    """Write a file as `write_private` does, and keep its previous version under another name.

    Without an fsync(2), some file systems (XFS, ext4 with ``noauto_da_alloc``) can leave the new
    file empty after a crash of the machine. The caller therefore keeps the previous version until
    `flush` has written the new file to disk.

    Returns
    -------
    Path, optional
        The path of the previous version. None if there was no regular file, or if the file system
        has no hard links.
    """
    with _temporary_file(path, content) as temporary:
        previous = _link_previous(path)
        try:
            temporary.rename(path)
        except OSError:
            if previous is not None:
                previous.unlink()
            raise
    return previous


def _link_previous(path: Path) -> Path | None:
    if path.is_symlink() or not path.is_file():
        return None
    link = _temporary_name(path)
    try:
        link.hardlink_to(path)
    except OSError:
        return None
    return link


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


@contextlib.contextmanager
def _temporary_file(path: Path, content: bytes, *, durable: bool = False) -> Iterator[Path]:
    """Write a temporary file that the caller renames to ``path``.

    Remove the file after an error.
    """
    temporary = _temporary_name(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        try:
            _write_all(descriptor, content)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        yield temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_all(descriptor: int, content: bytes) -> None:
    unwritten = memoryview(content)
    while unwritten:
        unwritten = unwritten[os.write(descriptor, unwritten) :]


def flush(path: Path) -> None:
    """Write a file's content and its directory entry through to disk with fsync(2).

    If the file no longer exists, nothing is flushed.

    Raises
    ------
    OSError
        If fsync fails.
    """
    with contextlib.suppress(FileNotFoundError):
        for target in (path, path.parent):
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(target, flags)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def is_private(path: Path, content: bytes) -> bool:
    """Check whether a file has the content, owner and mode that `write_private` would give it.

    Reading the file takes far less time than writing it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        is_ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
        has_mode = stat.S_IMODE(status.st_mode) == 0o600  # noqa: PLR2004  # a mode reads best so
        is_only_link = status.st_nlink == 1
        matches = is_ours and has_mode and is_only_link
        return matches and stream.read(len(content) + 1) == content


def try_to_write(folder: Path, size: int) -> None:
    """Check whether a folder has room, by writing and removing a file of ``size`` random bytes.

    Raises
    ------
    OSError
        If the disk is full or the folder is not writable.
    """
    with _temporary_file(folder / "trial", os.urandom(size)) as temporary:
        temporary.unlink()


def remove_temporary_files(folder: Path) -> None:
    """Remove all temporary files in a folder; they are left over from processes that died."""
    for path in folder.glob(".*"):
        if is_temporary(path.name):
            path.unlink(missing_ok=True)


def is_temporary(name: str) -> bool:
    """Check whether a file name has the form of the temporary names of this module."""
    return _TEMPORARY_NAME.fullmatch(name) is not None


def read_tail(path: Path, limit: int) -> str:
    """Read the last ``limit`` bytes of a text file; ``""`` if the file cannot be read."""
    try:
        with os.fdopen(open_regular(path), "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - limit))
            return stream.read(limit).decode(errors="replace")
    except OSError:
        return ""


def take_lock(path: Path, note: str = "") -> int:
    """Lock a file with flock(2), and return its open file descriptor.

    The lock is released when the descriptor is closed or the process ends.

    Parameters
    ----------
    path : Path
        The lock file; it is created if missing.
    note : str
        A description of this process. If another process tries to take the lock, the error in that
        process quotes the first line of the description.

    Raises
    ------
    LockedError
        If another process holds the lock.
    """
    descriptor = _open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with contextlib.suppress(OSError):  # the note is optional, so a full disk is no error
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, note.encode(), 0)
    except BlockingIOError:
        first_line = os.pread(descriptor, 200, 0).decode(errors="replace").partition("\n")[0]
        is_note = first_line and not first_line.startswith("{")
        holder = first_line if is_note else "another process"
        os.close(descriptor)
        raise LockedError(f"locking {path}: {holder} holds it") from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open_lock(path: Path) -> int:
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        # A file on a read-only disk can still be locked.
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | flags)


def is_locked(path: Path) -> bool:
    """Check whether a process holds a lock, by taking and releasing a shared lock.

    An exclusive lock would fail on NFS, because the file is open for reading only.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
