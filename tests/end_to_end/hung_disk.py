"""A file system that never answers, as a file server that hangs: FUSE, and nobody behind it.

Whoever touches a path on it waits in the kernel, also where a file is opened without blocking, and
no signal but SIGKILL ends that. It ends for all when the device is closed, at the latest with the
process that opened it.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

MNT_DETACH = 2  # of umount2(2)


class HungDisk:
    """The mounted folder; `answer` ends the waiting, by an error."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._device = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0".encode()
        if self._libc.mount(b"hung", os.fsencode(folder), b"fuse", 0, options):
            number = ctypes.get_errno()
            os.close(self._device)
            raise OSError(number, os.strerror(number))

    def answer(self) -> None:
        """Have everything on it fail from now on, instead of hanging."""
        if self._device >= 0:
            os.close(self._device)
            self._device = -1

    def close(self) -> None:
        self.answer()
        self._libc.umount2(os.fsencode(self.folder), MNT_DETACH)
        self.folder.rmdir()


@contextlib.contextmanager
def hung_disk(folder: Path) -> Iterator[HungDisk]:
    """Mount one, which needs root."""
    disk = HungDisk(folder)
    try:
        yield disk
    finally:
        disk.close()


def can_hang() -> bool:
    """Tell whether such a thing can be mounted here."""
    return os.geteuid() == 0 and os.access("/dev/fuse", os.R_OK | os.W_OK)
