"""Applies the memory quota to the slice of each owner.

Rules. An administrator can also limit a slice (``systemctl set-property``, or a drop-in). The quota
or the administrator's limit applies, whichever is lower. Without a quota, no slice is changed. If
the quota is removed, the administrator's limit is restored. For this, the administrator's limit is
recorded in a file below /run, which outlives the front door. A reboot removes both this file and
the limits that the front door has set.
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
class AppliedLimit:
    """The limit that the front door has set, and the limit that it replaced, in bytes."""

    size: int
    before: int


def decide(
    quota: int | None, current: int, applied: AppliedLimit | None
) -> tuple[int | None, AppliedLimit | None]:
    """Return the limit to set for a slice (None for no change), and the record to keep.

    Parameters
    ----------
    quota : int, optional
        The quota of each user, in bytes; None if there is no quota.
    current : int
        The limit that is in force for the slice, in bytes.
    applied : AppliedLimit, optional
        The record of the limit that the front door has set for this slice; None if there is no
        record.
    """
    # If the limit differs from the record, an administrator has set it since.
    admin_limit = applied.before if applied is not None and applied.size == current else current
    limit = admin_limit if quota is None else min(quota, admin_limit)
    record = None if limit == admin_limit else AppliedLimit(limit, admin_limit)
    return (None if limit == current else limit), record


class Slices:
    """Sets the memory limits of the owners' slices.

    Parameters
    ----------
    systemd : Systemd
        The service manager.
    folder : Path
        A private folder, which contains a record for each uid whose slice the front door has
        limited.
    """

    def __init__(self, systemd: Systemd, folder: Path) -> None:
        self._systemd, self._folder = systemd, folder
        # Held from the read of a limit until the new limit is set, so that no other request changes
        # the limit in between.
        self._lock = asyncio.Lock()

    async def limit(self, uid: int, quota: int | None) -> None:
        """Apply the quota to an owner's slice; for None, restore the administrator's limit."""
        async with self._lock:
            await self._limit(uid, quota)

    async def _limit(self, uid: int, quota: int | None) -> None:
        file, unit = self._folder / str(uid), f"kconnd-{uid}.slice"
        applied = _read(file)
        if quota is None and applied is None:
            return
        size, record = decide(quota, await self._systemd.memory_limit(unit), applied)
        # The record is written before the limit is set, so that a crash cannot lose the
        # administrator's limit.
        if record is not None and record != applied:
            write_private(file, json.dumps(asdict(record)).encode())
        if size is not None:
            log.info("limiting the memory of %s to %d bytes", unit, size)
            await self._systemd.limit_memory(unit, size)
        if record is None:
            file.unlink(missing_ok=True)

    async def uids(self) -> list[int]:
        """List the uids whose slice is active or was limited by the front door."""
        units = await self._systemd.list_active("kconnd-*.slice")
        names = [unit.removeprefix("kconnd-").removesuffix(".slice") for unit in units]
        return sorted({*_numbers(names), *_numbers(path.name for path in self._folder.iterdir())})


def _numbers(names: Iterable[str]) -> list[int]:
    return [int(name) for name in names if name.isdecimal()]


def _read(file: Path) -> AppliedLimit | None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return AppliedLimit(**json.loads(file.read_bytes()))
    return None
