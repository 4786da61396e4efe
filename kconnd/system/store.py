"""Kernel records on disk: one private folder per kernel, with one file for its record.

``STATE/kernels/NAME/record.json`` is the record; the kernel's log and exit file are beside it. A
record that cannot be parsed is renamed to ``record.bad-N.json`` and never deleted. If machines
share a home folder, records of other machines are read but never changed.

As soon as `Store.save` returns, the record survives an exit of the daemon. About a second later, a
background thread has written the record to disk, and it survives a crash of the machine
(`kconnd.system.files.writeback`). No caller waits for the write to disk. A crash of the machine
terminates all kernels, so the data about processes in a record are worthless afterwards. The only
loss that matters is the last change of a kernel's desired state (whether users want the kernel up
or down). Until a record is on disk, its previous version is kept (``.record.json.*``), and
`Store.read` can restore the previous version.
"""

import contextlib
import json
import logging
import os
import shutil
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
        A private folder of this user; a missing folder is created.
    origin : Origin
        This machine and its current boot.
    flush : callable
        A function that writes a file through to disk.
    """

    def __init__(
        self, state_dir: Path, origin: Origin, flush: Callable[[Path], None] = flush
    ) -> None:
        self.origin = origin
        self._writeback = WritebackQueue(flush)
        self.state_dir = state_dir
        self.warm = Path(warm_dir(str(state_dir)))  # the folder of warm kernels
        self._folder = Path(kernels_dir(str(state_dir)))
        ensure_private_dir(state_dir)
        ensure_private_dir(self._folder)

    def path(self, name: str) -> Path:
        """Return the path of a kernel's folder; the folder may be missing."""
        return self._folder / name

    def folder(self, name: str) -> Path:
        """Return a kernel's folder; a missing folder is created."""
        folder = self._folder / name
        if not folder.is_dir():
            ensure_private_dir(folder)
        return folder

    def save(self, record: KernelRecord) -> None:
        """Save a record so that it survives the daemon's exit, and schedule its fsync(2)."""
        content = as_json(to_json(replace(record, origin=self.origin)))
        path = self.folder(record.name) / RECORD
        self._writeback.schedule(path, replace_private(path, content))

    def close(self) -> None:
        """Write the queued records to disk, and accept no more."""
        self._writeback.close()

    def remove(self, name: str) -> None:
        """Remove the record and all other files of a kernel that has no process."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._folder / name)

    def tidy(self, read: Collection[str]) -> None:
        """Remove the temporary files and previous versions that a dead daemon left behind.

        ``read`` contains the kernels whose records were read. The files of any other kernel are
        kept if the kernel has a record or a lock file: the record may be damaged, and the lock may
        belong to a live kernel of another machine.
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
        """Read a record without repairing it; None if the record is missing or damaged."""
        try:
            return _read(self._folder / name / RECORD, name)
        except (OSError, ValueError, RecursionError):
            return None

    def read(self, name: str) -> KernelRecord:
        """Read a record, or its previous version if the record is damaged.

        Raises
        ------
        StateFileError
            If the file cannot be read, or if the record and its previous versions are damaged or
            have the format of a newer kconnd. A damaged record is renamed, and the error states the
            new name.
        """
        path = self._folder / name / RECORD
        try:
            return _read(path, name)
        except OSError as error:  # the content may be valid, so the file is left in place
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
            # The damaged record is linked to a new name and then replaced, so that the kernel
            # always has a record.
            outcome = _put_aside(path, _link)
            version.rename(path)
            log.warning("reading %s: %s; %s; using the previous version", path, damage, outcome)
            return record
    return None


def _link(path: Path, target: Path) -> None:
    try:
        target.hardlink_to(path)
    except OSError:  # the file system has no hard links
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
    """Read the records of other machines in a shared home folder.

    Parameters
    ----------
    folder : Path
        A folder that contains a state folder for each machine. The name of a state folder is the
        machine id.
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
    """Rename a damaged record to a free name, and return a description for the error message."""
    number = 1
    while (target := path.with_name(f"record.bad-{number}.json")).exists():
        number += 1
    try:
        move(path, target)
    except OSError as error:
        return f"it could not be renamed ({error})"
    return f"it is now {target}"
