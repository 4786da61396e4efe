"""Finds folders that cannot be written to, and reports errors about them with a cure."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from kconnd.core.unwritable_folder import ERRORS, cure_for
from kconnd.errors import KconndError


@contextlib.contextmanager
def explain_unwritable(
    action: str, home: str, error_class: type[KconndError] = KconndError
) -> Iterator[None]:
    """Convert an OSError about a path to an error that names the path and a cure.

    Parameters
    ----------
    action : str
        The action that fails, for the message: ``starting a daemon``.
    home : str
        The user's home folder.
    error_class : type
        The class of the new error.

    Raises
    ------
    KconndError
        If the block raises an OSError that names a path and that a user can do something about.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None or error.errno not in ERRORS:
            raise
        path = os.path.abspath(os.fsdecode(error.filename))  # noqa: PTH100  # a path as text
        cure = cure_for(path, error.errno, home, has_home=os.path.isdir(home))  # noqa: PTH112  # as text
        raise error_class(f"{action}: {path}: {error.strerror}", hint=cure) from error


def find_write_error(folder: Path) -> int:
    """Return the error number of a write into a folder; 0 if a write would succeed.

    Nothing is written. If the folder does not exist, its nearest existing parent is examined.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        return errno.ENOTDIR
    status = os.statvfs(existing)
    if status.f_flag & os.ST_RDONLY:
        return errno.EROFS
    if not os.access(existing, os.W_OK | os.X_OK):
        return errno.EACCES
    # Some file systems, such as btrfs, do not limit the number of files and report 0 of 0.
    is_full = status.f_blocks and not status.f_bavail
    has_no_inodes = status.f_files and not status.f_favail
    return errno.ENOSPC if is_full or has_no_inodes else 0
