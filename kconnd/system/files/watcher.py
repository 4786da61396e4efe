"""Folders in which changes are told of by the system, as they happen: inotify(7).

Rules. Nothing runs while nothing changes: no thread and no rounds. A folder that is moved away or
removed counts as changed, and as missing from then on. Of one that is missing nobody tells when it
comes, nor does anybody when its path leads to another (a folder above it was renamed, a link, a
mount): that is seen when somebody looks.
"""

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from inotify_simple import INotify, flags

from kconnd.system.hung_calls import Begin

GONE = flags.IGNORED | flags.MOVE_SELF  # what is removed or unmounted is told of as IGNORED, too
WRITTEN = flags.CREATE | flags.MODIFY | flags.CLOSE_WRITE | flags.ATTRIB
CHANGES = WRITTEN | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO | flags.MOVE_SELF
LIMITS = {
    errno.ENOSPC: "fs.inotify.max_user_watches is reached",
    errno.EMFILE: "too many files are open, or fs.inotify.max_user_instances is reached",
}


class Folders:
    """Watches what comes, changes and goes directly in some folders, whether they are there or not.

    Parameters
    ----------
    folders : iterable of Path
        Which ones.
    counts : callable
        Tells whether a change of what has this name counts.
    """

    def __init__(self, folders: Iterable[Path], counts: Callable[[str], bool]) -> None:
        self.missing = set(folders)
        self.trouble = ""
        self._counts = counts
        self._watched: dict[int, set[Path]] = {}  # by number; links can lead to the same folder
        self._places: dict[Path, tuple[int, int]] = {}  # device and number of what is watched
        self._changed = asyncio.Event()
        self._inotify: INotify | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Watch none of them any more."""
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None
        for number in list(self._watched):
            self._let_go(number)

    def touch(self, begin: Begin) -> None:
        """Look at each folder in a thread, from which what hangs cannot hold up a loop."""
        for folder in sorted({*self.missing, *list(self._places)}):
            begin(f"looking at the folder {folder}")
            _place(folder)

    def look(self) -> bool:
        """Watch those that are there by now; tell whether any has come, or is gone or another.

        Why one of them cannot be watched is in `trouble`, which is empty otherwise.
        """
        self.trouble, differs = "", self._leave_what_moved()
        for folder in sorted(self.missing):
            try:
                self._watch(folder)
                differs = True
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                why = LIMITS.get(error.errno or 0, error.strerror)
                self.trouble = f"watching {folder}: {why}"
        return differs

    async def changed(self, limit: float | None) -> bool:
        """Wait until something has changed since the last call; false after ``limit`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._changed.wait()
        happened = self._changed.is_set()
        self._changed.clear()
        return happened

    def _leave_what_moved(self) -> bool:
        moved = [path for path, place in self._places.items() if _place(path) != place]
        for number, paths in list(self._watched.items()):
            if not paths.isdisjoint(moved):
                self._let_go(number)
        return bool(moved)

    def _watch(self, folder: Path) -> None:
        place = _place(folder)  # before: one that takes its place is another when somebody looks
        number = self._opened().add_watch(folder, CHANGES | flags.ONLYDIR)
        self._watched.setdefault(number, set()).add(folder)
        self._places[folder] = place
        self.missing.discard(folder)

    def _opened(self) -> INotify:
        if self._inotify is None:
            inotify = INotify(nonblocking=True)
            asyncio.get_running_loop().add_reader(inotify.fileno(), self._hear)
            self._inotify = inotify
        return self._inotify

    def _hear(self) -> None:
        for event in self._opened().read(timeout=0):
            if event.mask & flags.Q_OVERFLOW:  # any of them may have gone
                for number in list(self._watched):
                    self._let_go(number)
            if event.mask & GONE:
                self._let_go(event.wd)
            itself = GONE | flags.Q_OVERFLOW | (0 if event.name else flags.ATTRIB)
            if event.mask & itself or self._counts(event.name):
                self._changed.set()

    def _let_go(self, number: int) -> None:
        """Count what has this number as missing; one that was moved would still be told of."""
        for folder in self._watched.pop(number, ()):
            self.missing.add(folder)
            del self._places[folder]
        if self._inotify is not None:
            with contextlib.suppress(OSError):  # it is gone already
                self._inotify.rm_watch(number)


def _place(path: Path) -> tuple[int, int]:
    """Give the device and the number of a folder; zeros where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116  # also of a link that leads round in a circle
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino
