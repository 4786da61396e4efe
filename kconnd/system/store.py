"""Kernel records on disk: one private folder per kernel, with one file for its record.

``STATE/kernels/NAME/record.json`` is the record; the kernel's log and exit file are beside it. A
file that cannot be parsed is renamed to ``record.bad-N.json`` and never deleted. Records of other
machines, in a home that machines share, can be read and are never changed.

A saved record survives the end of the daemon at once, and a crash of the machine about a second
later (`kconnd.system.files.writeback`). Nothing waits for that second: a crash of the machine ends
all kernels, and loses at most the last change of a kernel's desired state. Until a record is on
disk, its previous version is kept (``.record.json.*``); `Store.read` falls back to it.
"""

import contextlib
import json
import logging
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

from kconnd.core.kernel.record import KernelRecord, Origin, parse_record, to_json
from kconnd.core.launch.kernel_files import LOCK, RECORD, kernels_dir, records_pattern, warm_dir
from kconnd.errors import StateFileError
from kconnd.system.fast_json import as_json
from kconnd.system.files.private import (
    ensure_private_dir,
    flush,
    is_temporary,
    remove_temporary_files,
    replace_private,
)
from kconnd.system.files.regular import MAX_OWN_BYTES, read_regular
from kconnd.system.files.writeback import WritebackQueue

log = logging.getLogger("kconnd")


class Store:
    """The records in one state folder.

    Parameters
    ----------
    state_dir : Path
        A private folder of its user; it is created if missing.
    origin : Origin
        This machine and its current boot.
    flush : callable
        Writes a file through to disk.
    """

    def __init__(
        self, state_dir: Path, origin: Origin, flush: Callable[[Path], None] = flush
    ) -> None:
        self.origin = origin
        self._writeback = WritebackQueue(flush)
        self.state_dir = state_dir
        self.warm = Path(warm_dir(str(state_dir)))  # warm kernels, which have no name yet
        self._folder = Path(kernels_dir(str(state_dir)))
        ensure_private_dir(state_dir)
        ensure_private_dir(self._folder)

    def path(self, name: str) -> Path:
        """Return the path of a kernel's folder, which may be missing."""
        return self._folder / name

    def folder(self, name: str) -> Path:
        """Return a kernel's folder, and create it if missing."""
        folder = self._folder / name
        if not folder.is_dir():
            ensure_private_dir(folder)
        return folder

    def save(self, record: KernelRecord) -> None:
        """Save a record, and schedule its write to disk."""
        content = as_json(to_json(replace(record, origin=self.origin)))
        path = self.folder(record.name) / RECORD
        self._writeback.schedule(path, replace_private(path, content))

    def close(self) -> None:
        """Write all saved records to disk."""
        self._writeback.close()

    def tidy(self, read: Collection[str]) -> None:
        """Remove temporary files and previous versions that a dead daemon left behind.

        A kernel that is not in ``read`` keeps them if it has a record, which may be damaged, or a
        lock, which may belong to a live kernel of another machine.
        """
        for folder in self._folder.iterdir():
            may_need_them = os.path.lexists(folder / RECORD) or os.path.lexists(folder / LOCK)
            if folder.name in read or not may_need_them:
                remove_temporary_files(folder)

    def names(self) -> Iterator[str]:
        """List the kernels that have a record."""
        return (path.parent.name for path in sorted(self._folder.glob(f"*/{RECORD}")))

    def locks(self) -> Iterator[str]:
        """List the kernels that have a lock file, held or not."""
        return (path.parent.name for path in sorted(self._folder.glob(f"*/{LOCK}")))

    def peek(self, name: str) -> KernelRecord | None:
        """Read a record without repairing it; None if it is missing or damaged."""
        try:
            return _read(self._folder / name / RECORD, name)
        except (OSError, ValueError, RecursionError):
            return None

    def read(self, name: str) -> KernelRecord:
        """Read a record, or its previous version if the record is damaged.

        Raises
        ------
        StateFileError
            If both are damaged or of a newer version. The record is renamed, and the error has its
            new name.
        """
        path = self._folder / name / RECORD
        try:
            return _read(path, name)
        except OSError as error:  # the content may be sound: leave the file in place
            raise StateFileError(f"reading {path}: {error}; the file was left in place") from error
        except (ValueError, RecursionError) as error:
            record = _restore(path, name, error)
            if record is None:
                outcome = _put_aside(path, Path.rename)
                raise StateFileError(f"reading {path}: {error}; {outcome}") from error
            return record


def _read(path: Path, name: str) -> KernelRecord:
    record = parse_record(json.loads(read_regular(path, MAX_OWN_BYTES)))
    if record.name != name:
        raise ValueError(f"it is the record of {record.name!r}")
    return record


def _restore(path: Path, name: str, damage: Exception) -> KernelRecord | None:
    """Replace a damaged record by the newest previous version that can be parsed."""
    for version in _previous_versions(path):
        with contextlib.suppress(OSError, ValueError, RecursionError):
            record = _read(version, name)
            # Link, then replace: a crash in between must not leave the kernel without a record.
            outcome = _put_aside(path, _link)
            version.rename(path)
            log.warning("reading %s: %s; %s; using the previous version", path, damage, outcome)
            return record
    return None


def _link(path: Path, target: Path) -> None:
    try:
        target.hardlink_to(path)
    except OSError:  # a file system without hard links
        path.rename(target)


def _previous_versions(path: Path) -> list[Path]:
    """List the previous versions of a record, newest first."""
    versions = []
    for file in path.parent.glob(f".{path.name}.*"):
        with contextlib.suppress(OSError):
            if is_temporary(file.name):
                versions.append((file.lstat().st_mtime_ns, file))
    return [file for _, file in sorted(versions, reverse=True)]


def records_elsewhere(folder: Path, origin: Origin) -> Iterator[KernelRecord]:
    """Read the records that other machines keep in a shared home.

    Parameters
    ----------
    folder : Path
        Contains one state folder per machine, named by machine id.
    origin : Origin
        This machine.
    """
    for path in sorted(folder.glob(records_pattern())):
        with contextlib.suppress(OSError, ValueError, RecursionError):
            if path.stat().st_uid != os.geteuid():
                continue
            record = parse_record(json.loads(read_regular(path, MAX_OWN_BYTES)))
            if record.origin is not None and record.origin.machine != origin.machine:
                yield record


def _put_aside(path: Path, move: Callable[[Path, Path], object]) -> str:
    """Rename a damaged record to a free name, and return a description of that for a message."""
    number = 1
    while (target := path.with_name(f"record.bad-{number}.json")).exists():
        number += 1
    try:
        move(path, target)
    except OSError as error:
        return f"it could not be renamed ({error})"
    return f"it is now {target}"
