"""Watch folders for changes with inotify(7).

While nothing changes, no thread runs and nothing is polled. A folder that is moved or removed
counts as changed, and is missing from then on. inotify does not report the creation of a missing
folder, nor that a path now leads to another folder, for example after a mount or a change of a
symlink. `refresh` detects new folders and changed paths.
"""

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from inotify_simple import INotify, flags

from kconnd.system.hung_calls import BeginStep

# inotify reports IGNORED when a watch ends, for example after the folder is removed or unmounted.
GONE = flags.IGNORED | flags.MOVE_SELF
WRITTEN = flags.CREATE | flags.MODIFY | flags.CLOSE_WRITE | flags.ATTRIB
CHANGES = WRITTEN | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO | flags.MOVE_SELF
LIMIT_MESSAGES = {
    errno.ENOSPC: "the limit fs.inotify.max_user_watches is reached",
    errno.EMFILE: "too many files are open, or the limit fs.inotify.max_user_instances is reached",
}


class FolderWatcher:
    """Watches the direct entries of some folders; a folder may be missing.

    Parameters
    ----------
    folders : iterable of Path
        The folders.
    counts : callable
        A function that selects, by name, the entries whose changes count.
    on_change : callable
        A function that is called when inotify reports a change, before any task runs that waits
        for this change.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        counts: Callable[[str], bool],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.missing = set(folders)
        self.trouble = ""
        self._counts, self._on_change = counts, on_change
        # The paths of each watch. Several paths can lead to one folder, and then share its watch.
        self._watches: dict[int, set[Path]] = {}
        self._inodes: dict[Path, tuple[int, int]] = {}  # device and inode of each watched folder
        self._changed = asyncio.Event()
        self._inotify: INotify | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove all watches."""
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None
        for watch in list(self._watches):
            self._drop_watch(watch)

    def probe(self, begin: BeginStep) -> None:
        """Call stat(2) on each folder, so that a folder that hangs is found before `refresh`.

        The caller runs this method in a thread.
        """
        for folder in sorted({*self.missing, *list(self._inodes)}):
            begin(f"reading the folder {folder}")
            _inode_of(folder)

    def refresh(self) -> bool:
        """Watch the folders that exist now; return whether a folder appeared, moved or vanished.

        Afterwards, `trouble` explains why a folder that exists cannot be watched; `trouble` is
        empty if there is no such folder.
        """
        self.trouble, has_changed = "", self._drop_moved()
        for folder in sorted(self.missing):
            try:
                self._watch(folder)
                has_changed = True
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                reason = LIMIT_MESSAGES.get(error.errno or 0, error.strerror)
                self.trouble = f"watching {folder}: {reason}"
        return has_changed

    @property
    def has_changed(self) -> bool:
        """Whether a change was observed since the last call of `wait_for_change`."""
        return self._changed.is_set()

    async def wait_for_change(self, limit_s: float | None) -> bool:
        """Wait until a change is observed, or return at once if there was one since the last call.

        Return False after ``limit_s`` seconds without a change.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._changed.wait()
        has_changed = self._changed.is_set()
        self._changed.clear()
        return has_changed

    def _drop_moved(self) -> bool:
        moved = [path for path, inode in self._inodes.items() if _inode_of(path) != inode]
        for watch, paths in list(self._watches.items()):
            if not paths.isdisjoint(moved):
                self._drop_watch(watch)
        return bool(moved)

    def _watch(self, folder: Path) -> None:
        # The inode is read first. If the folder is replaced before it is watched, the next refresh
        # sees a different inode.
        inode = _inode_of(folder)
        watch = self._open_inotify().add_watch(folder, CHANGES | flags.ONLYDIR)
        self._watches.setdefault(watch, set()).add(folder)
        self._inodes[folder] = inode
        self.missing.discard(folder)

    def _open_inotify(self) -> INotify:
        if self._inotify is None:
            inotify = INotify(nonblocking=True)
            asyncio.get_running_loop().add_reader(inotify.fileno(), self._read_events)
            self._inotify = inotify
        return self._inotify

    def _read_events(self) -> None:
        for event in self._open_inotify().read(timeout=0):
            if event.mask & flags.Q_OVERFLOW:  # events were lost, so any folder may be gone
                for watch in list(self._watches):
                    self._drop_watch(watch)
            if event.mask & GONE:
                self._drop_watch(event.wd)
            concerns_folder = GONE | flags.Q_OVERFLOW | (0 if event.name else flags.ATTRIB)
            if event.mask & concerns_folder or self._counts(event.name):
                self._changed.set()
                self._on_change()

    def _drop_watch(self, watch: int) -> None:
        """Mark the folders of a watch as missing and remove the watch."""
        for folder in self._watches.pop(watch, ()):
            self.missing.add(folder)
            del self._inodes[folder]
        if self._inotify is not None:
            # If the folder was removed, inotify has removed the watch already.
            with contextlib.suppress(OSError):
                self._inotify.rm_watch(watch)


def _inode_of(path: Path) -> tuple[int, int]:
    """Return the device and inode of a folder; zeros if the folder is missing."""
    try:
        status = os.stat(path)  # noqa: PTH116  # a symlink loop raises OSError here
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino
