"""Where records of kernels are kept: one private folder a kernel, one file for its record.

``STATE/kernels/NAME/record.json``, with the kernel's log and its exit file beside it. A
record is one file, so that it is whole or not there; a file that cannot be read is put aside
with a new name and never deleted. Records that another machine wrote, into a home that is
shared between machines, can be looked at and are never touched.

What is saved outlives the daemon at once, whatever ends it. That it outlives the machine takes a
moment more (`kconnd.system.files.writeback`): nothing waits for that, since a crash of the machine
ends all kernels, and what it can take back is a wish of that moment. What is on disk is kept until
then (``.record.json.*``) where the file system can, and holds if the record cannot be read.
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
    exchange,
    exchange_private,
    flush,
    is_part,
    remove_parts,
)
from kconnd.system.files.regular import MAX_OWN_BYTES, read_regular
from kconnd.system.files.writeback import Disk

log = logging.getLogger("kconnd")


class Store:
    """The records below one state folder.

    Parameters
    ----------
    state_dir : Path
        Private to its user; made where it is missing.
    origin : Origin
        This machine, in this run of it.
    to_disk : callable
        Has a file written to disk.
    """

    def __init__(
        self, state_dir: Path, origin: Origin, to_disk: Callable[[Path], None] = flush
    ) -> None:
        self.origin = origin
        self._disk = Disk(to_disk)
        self.state_dir = state_dir
        self.warm = Path(warm_dir(str(state_dir)))  # of kernels that have no name yet
        self._folder = Path(kernels_dir(str(state_dir)))
        ensure_private_dir(state_dir)
        ensure_private_dir(self._folder)

    def path(self, name: str) -> Path:
        """Tell where a kernel's folder is, or would be."""
        return self._folder / name

    def folder(self, name: str) -> Path:
        """Give a kernel's folder, made where it is missing."""
        folder = self._folder / name
        if not folder.is_dir():
            ensure_private_dir(folder)
        return folder

    def save(self, record: KernelRecord) -> None:
        """Save a record; in a moment it will survive a crash of the machine, too."""
        content = as_json(to_json(replace(record, origin=self.origin)))
        path = self.folder(record.name) / RECORD
        self._disk.later(path, exchange_private(path, content))

    def close(self) -> None:
        """Wait until all that was saved has been written to disk."""
        self._disk.close()

    def tidy(self, read: Collection[str]) -> None:
        """Remove what a daemon left that died while it saved a record.

        It may be needed where there is a record that was not ``read``, and where another machine's
        kernel lives.
        """
        for folder in self._folder.iterdir():
            unread = os.path.lexists(folder / RECORD) or os.path.lexists(folder / LOCK)
            if folder.name in read or not unread:
                remove_parts(folder)

    def names(self) -> Iterator[str]:
        """List the kernels that have a record."""
        return (path.parent.name for path in sorted(self._folder.glob(f"*/{RECORD}")))

    def locks(self) -> Iterator[str]:
        """List the kernels that have a lock, whether it is held or not."""
        return (path.parent.name for path in sorted(self._folder.glob(f"*/{LOCK}")))

    def peek(self, name: str) -> KernelRecord | None:
        """Read a record and change nothing; None where there is none that can be read."""
        try:
            return _read(self._folder / name / RECORD, name)
        except (OSError, ValueError, RecursionError):
            return None

    def read(self, name: str) -> KernelRecord:
        """Read a record, or what was saved before it where it never came to the disk.

        Raises
        ------
        StateFileError
            If it is damaged or of a newer version; it is then put aside, and the text says
            where.
        """
        path = self._folder / name / RECORD
        try:
            return _read(path, name)
        except OSError as error:  # which says nothing against what is in it
            raise StateFileError(f"reading {path}: {error}; it is left where it is") from error
        except (ValueError, RecursionError) as error:
            record = _restore(path, name, error)
            if record is None:
                raise StateFileError(f"reading {path}: {error}; {_put_aside(path)}") from error
            return record


def _read(path: Path, name: str) -> KernelRecord:
    record = parse_record(json.loads(read_regular(path, MAX_OWN_BYTES)))
    if record.name != name:
        raise ValueError(f"it is about {record.name!r}")
    return record


def _restore(path: Path, name: str, trouble: Exception) -> KernelRecord | None:
    """Have what was saved before a record take its place, if there is something of it."""
    for before in _versions(path):
        with contextlib.suppress(OSError, ValueError, RecursionError):
            record = _read(before, name)
            if exchange(before, path):  # so that there is a record at every instant
                aside = _put_aside(before)
            else:
                aside = _put_aside(path)
                before.rename(path)
            log.warning("reading %s: %s; %s; what was saved before holds", path, trouble, aside)
            return record
    return None


def _versions(path: Path) -> list[Path]:
    """List what was saved before a record and is still there, the newest first."""
    found = []
    for one in path.parent.glob(f".{path.name}.*"):
        with contextlib.suppress(OSError):
            if is_part(one.name):
                found.append((one.lstat().st_mtime_ns, one))
    return [one for _, one in sorted(found, reverse=True)]


def records_elsewhere(folder: Path, origin: Origin) -> Iterator[KernelRecord]:
    """Read the records of other machines that share our home, without touching them.

    Parameters
    ----------
    folder : Path
        Has a state folder for each machine, by machine id.
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


def _put_aside(path: Path) -> str:
    number = 1
    while (aside := path.with_name(f"record.bad-{number}.json")).exists():
        number += 1
    try:
        path.rename(aside)
    except OSError as error:
        return f"it could not be put aside ({error})"
    return f"it is now {aside}"
