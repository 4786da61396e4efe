"""Explains why a folder of kconnd cannot be used, and how a user can make kconnd work again.

All functions are pure. The causes are a full disk, a used-up quota, a read-only file system, a
missing home folder and missing permissions. The errors of other causes are reported without a cure.
"""

import errno
import posixpath

# The errors of mkdir(2), open(2) and write(2) that a user can do something about.
ERRORS = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
        *(errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EIO, errno.ESTALE),
    }
)


def is_below(path: str, folder: str) -> bool:
    """Return whether a path leads to a folder or into it; both are absolute."""
    return posixpath.commonpath([path, folder]) == posixpath.normpath(folder)


def cure_for(path: str, number: int, home: str, *, has_home: bool) -> str:
    """Return what a user can do about a folder that cannot be used.

    Parameters
    ----------
    path : str
        The path that could not be created or written.
    number : int
        The error number; see `ERRORS`.
    home : str
        The user's home folder, as `kconnd.core.paths.home_dir` returns it.
    has_home : bool
        Whether the home folder exists.

    Returns
    -------
    str
        The instructions; ``""`` for an unknown error.
    """
    if number not in ERRORS:
        return ""
    if not is_below(path, home):
        elsewhere = (
            f"make {posixpath.dirname(path)} writable for you, or name another folder with "
            "XDG_STATE_HOME, or with --state-dir and --runtime-dir of kconnd"
        )
    elif not has_home:
        return (
            f"the home folder {home} does not exist: create it, or set HOME to a folder that you "
            "can write to"
        )
    else:
        elsewhere = (
            "set HOME to a folder that you can write to, or XDG_STATE_HOME for the files of "
            "kconnd alone"
        )
    if number == errno.ENOSPC:
        return f"free some space on the disk of {path}; or {elsewhere}"
    if number == errno.EDQUOT:
        return f"your quota is used up ('quota -s' shows it): remove some files; or {elsewhere}"
    return elsewhere
