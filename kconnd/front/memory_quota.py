"""The limit of memory of each owner's slice: the quota, and never more than what was there.

Rules. An administrator may limit a slice, too (``systemctl set-property``, or a drop-in). So
the lower of both holds, without a quota nothing is touched, and a quota that is taken away
leaves what there was before it. That is remembered in a file below /run: it outlives us, and a
reboot forgets it together with what we have set.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from kconnd.system.files.private import write_private
from kconnd.system.systemd.unit_control import Systemd

log = logging.getLogger("kconnd")


@dataclass(frozen=True)
class Mark:
    """What we have set, and what there was before, in bytes."""

    size: int
    before: int


def decide(quota: int | None, current: int, mark: Mark | None) -> tuple[int | None, Mark | None]:
    """Give what to set a slice's limit to, or None for nothing, and what to remember.

    Parameters
    ----------
    quota : int, optional
        What each user may have.
    current : int
        What holds now.
    mark : Mark, optional
        What we remember.
    """
    theirs = mark.before if mark is not None and mark.size == current else current
    wanted = theirs if quota is None else min(quota, theirs)
    kept = None if wanted == theirs else Mark(wanted, theirs)
    return (None if wanted == current else wanted), kept


class Slices:
    """Sets those limits.

    Parameters
    ----------
    systemd : Systemd
        Has the slices.
    folder : Path
        Private; has a file for each uid whose slice we have limited.
    """

    def __init__(self, systemd: Systemd, folder: Path) -> None:
        self._systemd, self._folder = systemd, folder
        self._turn = asyncio.Lock()  # what is read of a slice has to hold until it is set

    async def limit(self, uid: int, quota: int | None) -> None:
        """See to it that an owner's slice has its quota, or has it no more."""
        async with self._turn:
            await self._limit(uid, quota)

    async def _limit(self, uid: int, quota: int | None) -> None:
        file, unit = self._folder / str(uid), f"kconnd-{uid}.slice"
        mark = _read(file)
        if quota is None and mark is None:
            return
        size, kept = decide(quota, await self._systemd.memory_limit(unit), mark)
        if kept is not None and kept != mark:  # first, so that it is never forgotten
            write_private(file, json.dumps(asdict(kept)).encode())
        if size is not None:
            log.info("the memory of %s is limited to %d bytes", unit, size)
            await self._systemd.limit_memory(unit, size)
        if kept is None:
            file.unlink(missing_ok=True)

    async def there(self) -> list[int]:
        """List the uids that have a slice now, or had it limited by us."""
        units = await self._systemd.active("kconnd-*.slice")
        names = [unit.removeprefix("kconnd-").removesuffix(".slice") for unit in units]
        return sorted({*_uids(names), *_uids(path.name for path in self._folder.iterdir())})


def _uids(names: Iterable[str]) -> list[int]:
    return [int(name) for name in names if name.isdecimal()]


def _read(file: Path) -> Mark | None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Mark(**json.loads(file.read_bytes()))
    return None
