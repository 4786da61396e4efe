"""Identifies a file by what stays the same when it is renamed, moved or written in place.

An inode number alone does not identify a file, because a new file can get the number of a deleted
one. A file handle (name_to_handle_at(2)) also contains the generation of the inode; file servers
such as NFS identify files by it. Where there are no handles, the birth time (statx(2)) takes their
place. Python has neither call, so this module calls the C library.
"""

import ctypes
import functools
import os
import stat
from typing import Any

AT_FDCWD = -100
AT_SYMLINK_FOLLOW, AT_HANDLE_FID = 0x400, 0x200  # the latter: handles that only identify
STATX_BTIME = 0x800
MAX_HANDLE_BYTES = 128


class _Handle(ctypes.Structure):
    """``struct file_handle`` of open_by_handle_at(2)."""

    _fields_ = (
        ("size", ctypes.c_uint),
        ("kind", ctypes.c_int),
        ("content", ctypes.c_ubyte * MAX_HANDLE_BYTES),
    )


class _Statx(ctypes.Structure):
    """``struct statx`` of statx(2), with the birth time."""

    _fields_ = (
        ("mask", ctypes.c_uint32),
        ("before", ctypes.c_ubyte * 76),  # up to the birth time at byte 80
        ("birth_s", ctypes.c_int64),
        ("birth_ns", ctypes.c_uint32),
        ("after", ctypes.c_ubyte * 164),  # to 256 bytes
    )


def identify_file(path: str) -> str:
    """Return a text that identifies a regular file; ``""`` if there is none, or if nothing does.

    The text is the same for all paths of the file, and differs for all other files, also for those
    that are made later.
    """
    try:
        status = os.stat(path)  # noqa: PTH116  # one call for mode and inode
        volume = os.statvfs(path).f_fsid
    except (OSError, ValueError):
        return ""
    if not stat.S_ISREG(status.st_mode):
        return ""
    encoded = os.fsencode(path)
    unique = _handle(encoded) or _birth_time(encoded)
    return f"{volume:x}-{status.st_ino:x}-{unique}" if unique else ""


def _handle(path: bytes) -> str:
    handle, mount = _Handle(), ctypes.c_int()
    for flags in (AT_SYMLINK_FOLLOW, AT_SYMLINK_FOLLOW | AT_HANDLE_FID):
        handle.size = MAX_HANDLE_BYTES
        arguments = ctypes.byref(handle), ctypes.byref(mount), flags
        if _call("name_to_handle_at", path, *arguments):
            return f"h{handle.kind:x}.{bytes(handle.content[: handle.size]).hex()}"
    return ""


def _birth_time(path: bytes) -> str:
    status = _Statx()
    is_known = _call("statx", path, 0, STATX_BTIME, ctypes.byref(status))
    if not is_known or not status.mask & STATX_BTIME:
        return ""
    return f"b{status.birth_s:x}.{status.birth_ns:x}"


def _call(name: str, path: bytes, *arguments: Any) -> bool:
    """Call a function of the C library for a path; return False if it is missing or fails."""
    try:
        function = getattr(_library(), name)
    except (AttributeError, OSError):
        return False
    return int(function(AT_FDCWD, path, *arguments)) == 0


@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
