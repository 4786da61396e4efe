"""A fake service manager, and the front door's objects built on it in a temporary folder."""

import asyncio
import fnmatch
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kconnd.core.access import Peer
from kconnd.front.account_changes import Accounts
from kconnd.front.front_routes import FrontRequest
from kconnd.front.machine_config import MachineConfig
from kconnd.front.marks import Marks
from kconnd.front.memory_quota import Slices
from kconnd.front.owners import Owners
from kconnd.system.files.account_files import AccountFiles
from kconnd.system.systemd.unit_control import UNLIMITED, Systemd


class FakeSystemd(Systemd):
    """A service manager that starts nothing: it records calls and keeps the units' states.

    Parameters
    ----------
    units : dict, optional
        The units at the beginning, with their states.
    """

    def __init__(self, units: dict[str, str] | None = None) -> None:
        super().__init__()
        self.units = dict(units or {})
        self.memory: dict[str, int] = {}
        self.calls: list[tuple[Any, ...]] = []

    async def start(self, unit: str) -> None:
        await self._record("start", unit)
        self.units[unit] = "active"

    async def run_to_completion(self, unit: str) -> None:
        await self._record("run_to_completion", unit)

    async def start_transient(self, unit: str, properties: list[list[object]]) -> None:
        await self._record("start_transient", unit, len(properties))
        self.units[unit] = "activating"

    async def list_up(self, pattern: str) -> list[str]:
        await self._record("list_up", pattern)
        return fnmatch.filter(self.units, pattern)

    async def list_active(self, pattern: str) -> list[str]:
        await self._record("list_active", pattern)
        return [
            unit for unit in fnmatch.filter(self.units, pattern) if self.units[unit] == "active"
        ]

    async def memory_limit(self, unit: str) -> int:
        await self._record("memory_limit", unit)
        return self.memory.get(unit, UNLIMITED)

    async def limit_memory(self, unit: str, size: int) -> None:
        await self._record("limit_memory", unit, size)
        self.memory[unit] = size

    async def is_active(self, unit: str) -> bool:
        await self._record("is_active", unit)
        return self.units.get(unit) == "active"

    async def _record(self, *call: Any) -> None:
        self.calls.append(call)
        await asyncio.sleep(0)  # the real one yields to other tasks, too


def build_owners(folder: Path, settings: str = "", systemd: FakeSystemd | None = None) -> Owners:
    """Build the owners of a machine whose /etc, /run and /var/lib are in one folder."""
    for name in ("boot", "sharing", "limits", "run"):
        (folder / name).mkdir(exist_ok=True)
    file = folder / "kconnd.yaml"
    file.write_text(settings or "connections: 128\n", encoding="utf-8")
    file.chmod(0o644)
    machine = MachineConfig(str(folder / "configs"), str(file), uid=os.geteuid())
    systemd = systemd or FakeSystemd()
    files = AccountFiles(folder, folder / "run")
    files.make_folders()
    slices, accounts = Slices(systemd, folder / "limits"), Accounts(systemd, files)
    boot, sharing = Marks(folder / "boot"), Marks(folder / "sharing")
    return Owners(systemd, boot, sharing, machine, slices, accounts)


def request_of(
    owners: Owners, peer: Peer, name: str = "", body: Mapping[str, Any] = {}
) -> FrontRequest:
    return FrontRequest(owners=owners, peer=peer, name=name, body=body)
