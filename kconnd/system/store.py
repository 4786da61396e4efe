"""Where records of kernels are kept: one private folder a kernel, one file for its record.

``STATE/kernels/NAME/record.json``, with the kernel's log and its exit file beside it. A
record is one file, so that it is whole or not there; a file that cannot be read is put aside
with a new name and never deleted.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from kconnd.core.record import KernelRecord, parse_record, to_json
from kconnd.errors import StateFileError
from kconnd.system.files import ensure_private_dir, write_private


class Store:
    """The records below one state folder.

    Parameters
    ----------
    state_dir : Path
        Private to its user; made where it is missing.
    """

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "kernels"
        self._boot = state_dir / "boot_id"
        ensure_private_dir(state_dir)
        ensure_private_dir(self._folder)

    def is_new_boot(self, boot_id: str) -> bool:
        """Tell whether the machine has restarted since this was asked last."""
        try:
            known = self._boot.read_text(encoding="ascii")
        except OSError:
            known = ""
        if known != boot_id:
            write_private(self._boot, boot_id.encode())
        return known != boot_id

    def folder(self, name: str) -> Path:
        """Give a kernel's folder, made where it is missing."""
        folder = self._folder / name
        if not folder.is_dir():
            ensure_private_dir(folder)
        return folder

    def save(self, record: KernelRecord, *, durable: bool) -> None:
        """Save a record; ``durable`` where it must survive a crash of the machine."""
        content = json.dumps(to_json(record)).encode()
        write_private(self.folder(record.name) / "record.json", content, durable=durable)

    def names(self) -> Iterator[str]:
        """List the kernels that have a record."""
        return (path.parent.name for path in sorted(self._folder.glob("*/record.json")))

    def read(self, name: str) -> KernelRecord:
        """Read a record.

        Raises
        ------
        StateFileError
            If it is damaged or of a newer version; it is then put aside, and the text says
            where.
        """
        path = self._folder / name / "record.json"
        try:
            record = parse_record(json.loads(path.read_bytes()))
        except (OSError, ValueError) as error:
            aside = self._put_aside(path)
            raise StateFileError(f"reading {path}: {error}; it is now {aside}") from error
        if record.name != name:
            aside = self._put_aside(path)
            raise StateFileError(f"reading {path}: it is about {record.name!r}; it is now {aside}")
        return record

    @staticmethod
    def _put_aside(path: Path) -> Path:
        number = 1
        while (aside := path.with_name(f"record.bad-{number}.json")).exists():
            number += 1
        path.rename(aside)
        return aside
