"""A file system that never answers, like a hung file server: FUSE without a server process.

A process that accesses a path on it blocks in the kernel, even with O_NONBLOCK, and only SIGKILL
ends that. Closing the device, at the latest at the end of the process that opened it, makes every
access fail.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

MNT_DETACH = 2  # of umount2(2)


class HungDisk:
    """The mounted folder; `answer` makes every blocked access fail."""

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
        """Make every access fail from now on, instead of hanging."""
        if self._device >= 0:
            os.close(self._device)
            self._device = -1

    def close(self) -> None:
        self.answer()
        self._libc.umount2(os.fsencode(self.folder), MNT_DETACH)
        self.folder.rmdir()


@contextlib.contextmanager
def hung_disk(folder: Path) -> Iterator[HungDisk]:
    """Mount a hung file system; requires root."""
    disk = HungDisk(folder)
    try:
        yield disk
    finally:
        disk.close()


def can_hang() -> bool:
    """Return whether this process can mount a hung file system."""
    return os.geteuid() == 0 and os.access("/dev/fuse", os.R_OK | os.W_OK)
