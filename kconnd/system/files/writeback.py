"""Write saved files through to disk in a background thread, shortly after they were saved.

How it works. `WritebackQueue.schedule` adds a file to the queue, and a thread calls fsync(2) on all
queued files about a second later. For each queued file, the previous version is kept: a file with
another name and the last content that reached the disk. If a file is saved twice before its fsync,
the intermediate version is removed and the previous version is kept. Once the new content is on
disk, the previous version is removed. A crash of the machine therefore loses at most the last
second of changes and never the whole file. If the fsync of a file fails, the file stays queued and
the fsync is retried.
"""

import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

WRITE_DELAY_S = 1.0  # counted from the first change, so that one fsync covers later changes
RETRY_DELAY_S = 10.0

log = logging.getLogger("kconnd")


class WritebackQueue:
    """Flushes files to disk one after the other, in a thread that waits while no file is queued.

    Parameters
    ----------
    flush : callable
        A function that writes a file through to disk: `kconnd.system.files.private.flush`.
    """

    def __init__(self, flush: Callable[[Path], None]) -> None:
        self._flush = flush
        self._thread = ThreadPoolExecutor(1, "disk")
        self._lock = threading.Lock()
        # Each queued file, with the path of its previous version.
        self._previous: dict[Path, Path | None] = {}
        self._failed: set[Path] = set()  # files whose failure has been logged
        self._is_running = self._is_closed = False
        self._wake = threading.Event()

    def schedule(self, path: Path, previous: Path | None) -> None:
        """Queue a file; a file without a previous version is flushed without the usual delay.

        Parameters
        ----------
        path : Path
            The file that was saved.
        previous : Path, optional
            The path of the previous version; None if there is none. The queue removes the previous
            version after the flush.
        """
        with self._lock:
            on_disk = self._previous.setdefault(path, previous)
            must_start, self._is_running = not self._is_running, True
        if previous and previous != on_disk:
            _remove(previous)
        if previous is None:
            self._wake.set()
        if must_start:
            self._start()

    def _start(self) -> None:
        try:
            self._thread.submit(self._run)
        # The queue is closed, or no thread can be created; the next call tries again.
        except RuntimeError:
            with self._lock:
                self._is_running = False

    def _run(self) -> None:
        """Flush the queued files repeatedly, until the queue is empty or closed."""
        delay_s = WRITE_DELAY_S
        while True:
            self._wake.wait(delay_s)
            self._wake.clear()
            delay_s = WRITE_DELAY_S if self._flush_all() else RETRY_DELAY_S
            with self._lock:
                if self._is_closed or not self._previous:
                    self._is_running = False
                    return

    def _flush_all(self) -> bool:
        """Flush all queued files, and return whether every one reached the disk."""
        with self._lock:
            # Empty the queue first: a save during the flush queues its file again.
            batch, self._previous = self._previous, {}
        failed = {path: previous for path, previous in batch.items() if not self._try_flush(path)}
        for previous in (batch[path] for path in batch.keys() - failed.keys()):
            if previous:
                _remove(previous)
        with self._lock:
            for path, previous in failed.items():
                unflushed = self._previous.get(path)
                self._previous[path] = previous
                if unflushed:
                    _remove(unflushed)
        return not failed

    def _try_flush(self, path: Path) -> bool:
        try:
            self._flush(path)
        except FileNotFoundError:  # the kernel's files were removed meanwhile
            pass
        except Exception as error:  # noqa: BLE001  # one bad file must not stop the others
            if path not in self._failed:
                log.error("writing %s to disk: %s; retrying", path, error)
            self._failed.add(path)
            return False
        self._failed.discard(path)
        return True

    def close(self) -> None:
        """Flush all queued files and end the thread."""
        with self._lock:
            self._is_closed = True
        self._wake.set()
        self._thread.shutdown()
        self._flush_all()  # needed if no thread could be created


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # the next start of the daemon removes the file
        path.unlink(missing_ok=True)
