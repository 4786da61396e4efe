"""A service manager that only remembers, with the interface of the real one."""

import asyncio
import fnmatch
from typing import Any

from kconnd.system.systemd.unit_control import UNLIMITED, Systemd


class FakeSystemd(Systemd):
    """Takes every unit, and lists those that run.

    Parameters
    ----------
    units : dict, optional
        Those that are there, with their states.
    """

    def __init__(self, units: dict[str, str] | None = None) -> None:
        super().__init__()
        self.units = dict(units or {})
        self.memory: dict[str, int] = {}
        self.calls: list[tuple[Any, ...]] = []

    async def start(self, unit: str) -> None:
        await self._does("start", unit)
        self.units[unit] = "active"

    async def complete(self, unit: str) -> None:
        await self._does("complete", unit)

    async def run(self, unit: str, properties: list[list[object]]) -> None:
        await self._does("run", unit, len(properties))
        self.units[unit] = "activating"

    async def taken(self, pattern: str) -> list[str]:
        await self._does("taken", pattern)
        return fnmatch.filter(self.units, pattern)

    async def active(self, pattern: str) -> list[str]:
        await self._does("active", pattern)
        return [
            unit for unit in fnmatch.filter(self.units, pattern) if self.units[unit] == "active"
        ]

    async def memory_limit(self, unit: str) -> int:
        await self._does("memory_limit", unit)
        return self.memory.get(unit, UNLIMITED)

    async def limit_memory(self, unit: str, size: int) -> None:
        await self._does("limit_memory", unit, size)
        self.memory[unit] = size

    async def is_active(self, unit: str) -> bool:
        await self._does("is_active", unit)
        return self.units.get(unit) == "active"

    async def _does(self, *call: Any) -> None:
        self.calls.append(call)
        await asyncio.sleep(0)  # the real one lets others run, too
