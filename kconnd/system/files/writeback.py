"""Has what was saved written to disk: a moment later, and by a thread, since nobody waits for it.

Rules. Until a file is on disk, what is there is kept beside it, so a crash of the machine takes
back no more than what was saved last. Of what came and went in between nothing is kept. A file
that cannot be written stays due.
"""

import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MOMENT = 1.0  # seconds from a first change until all that has changed by then is written
AGAIN = 10.0  # seconds until what could not be written is tried again

log = logging.getLogger("kconnd")


class Disk:
    """Writes files to disk, one after the other.

    Parameters
    ----------
    write : callable
        Has one file written, as `kconnd.system.files.private.flush` does.
    """

    def __init__(self, write: Callable[[Path], None]) -> None:
        self._write = write
        self._thread = ThreadPoolExecutor(1, "disk")
        self._lock = threading.Lock()
        self._due: dict[Path, Path | None] = {}  # what is not on disk, with what is
        self._told: set[Path] = set()  # of what could not be written
        self._at_work = self._closed = False
        self._at_once = threading.Event()

    def later(self, path: Path, before: Path | None) -> None:
        """Have a file written; without one that was there before, as soon as can be.

        Parameters
        ----------
        path : Path
            What was saved.
        before : Path, optional
            Where that is now which it replaced; it is removed in the end.
        """
        with self._lock:
            on_disk = self._due.setdefault(path, before)
            begins, self._at_work = not self._at_work, True
        if before and before != on_disk:
            _remove(before)
        if before is None:
            self._at_once.set()
        if begins:
            self._begin()

    def _begin(self) -> None:
        try:
            self._thread.submit(self._work)
        except RuntimeError:  # it is closed, or there can be no more threads: the next one tries
            with self._lock:
                self._at_work = False

    def _work(self) -> None:
        """Write until nothing is due, or until it is closed."""
        pause = MOMENT
        while True:
            self._at_once.wait(pause)
            self._at_once.clear()
            pause = MOMENT if self._write_all() else AGAIN
            with self._lock:
                if self._closed or not self._due:
                    self._at_work = False
                    return

    def _write_all(self) -> bool:
        """Write all that is due, and tell whether that went well."""
        with self._lock:
            due, self._due = self._due, {}  # first: what is saved from here on is due again
        failed = {path: before for path, before in due.items() if not self._is_written(path)}
        for before in (due[path] for path in due.keys() - failed.keys()):
            if before:
                _remove(before)
        with self._lock:
            for path, before in failed.items():
                between = self._due.get(path)
                self._due[path] = before
                if between:
                    _remove(between)
        return not failed

    def _is_written(self, path: Path) -> bool:
        try:
            self._write(path)
        except Exception as error:  # noqa: BLE001  # whatever it is, the others are written
            if path not in self._told:
                log.error("writing %s to disk: %s; it is tried again", path, error)  # noqa: TRY400
            self._told.add(path)
            return False
        self._told.discard(path)
        return True

    def close(self) -> None:
        """Wait until all that is due has been written."""
        with self._lock:
            self._closed = True
        self._at_once.set()
        self._thread.shutdown()
        self._write_all()  # where there was no thread for it


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # what is left is removed when it is read the next time
        path.unlink(missing_ok=True)
