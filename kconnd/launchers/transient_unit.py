"""Kernels as transient services: the shim is a unit's main process, with limits by cgroup.

The unit is made by the front door, which forces whose it is; nothing secret is in it. From
the moment when the shim has said who the kernel is, all goes as with `LocalLauncher`: by
pidfd. A daemon that dies in between finds the unit by the facts that its shim wrote.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kconnd.client import Client
from kconnd.core.launch.plan import LaunchPlan
from kconnd.errors import KconndError, StartFailedError
from kconnd.launchers.base import Handle
from kconnd.launchers.local import LocalLauncher, refused
from kconnd.launchers.shim_plan import plan_records, still_there
from kconnd.system.files.private import is_locked, write_private
from kconnd.system.files.regular import MAX_OWN_BYTES, read_regular
from kconnd.system.process.cgroups import kernel_cgroup_of
from kconnd.system.process.processes import wait_for_end

SYSTEMD = "systemd"
LIMIT = 30.0  # seconds until the shim has said who the kernel is
GLANCE = 0.005  # seconds between looks: nothing tells when it has


class SystemdLauncher(LocalLauncher):
    """Launches kernels through the front door.

    Parameters
    ----------
    folder : Path
        Private; the compiled shim and plans are kept there.
    front : Path
        The front door's socket.
    """

    def __init__(self, folder: Path, front: Path) -> None:
        super().__init__(folder)
        self._front = Client(str(front))

    async def launch(self, plan: LaunchPlan) -> Handle:
        """Have a unit made for this plan; see `Launcher`."""
        if is_locked(Path(plan.files.lock)):
            raise still_there(plan, f"the lock {plan.files.lock} is held")
        file = Path(plan.files.unit_plan)
        lock = (("lock_file", plan.files.lock), ("report", "1"), ("cgroup", "1"))
        Path(plan.files.facts).unlink(missing_ok=True)  # noqa: ASYNC240  # short
        Path(plan.files.exit).unlink(missing_ok=True)  # noqa: ASYNC240  # the same
        write_private(file, b"".join(plan_records(plan, *lock)))
        try:
            unit = await asyncio.to_thread(self._ask, plan, file)
            facts = await _begun(plan, unit)
        except KconndError as error:
            file.unlink(missing_ok=True)  # noqa: ASYNC240  # short
            if isinstance(error, StartFailedError):
                raise
            raise StartFailedError(
                f"having a unit made for {plan.name}: {error.message}", hint=error.hint
            ) from error
        handle = await self.find(plan.files.facts, plan.files.exit, plan.files.lock)
        if handle is None:
            raise StartFailedError(f"launching {plan.name}: its shim ended at once")
        if facts["errno"] is not None:
            await wait_for_end(handle.shim)
            raise refused(plan, f"{facts['errno']} {facts['step']}")
        return handle

    async def find(self, facts: str, exit_file: str, lock: str) -> Handle | None:
        """Read what the shim recorded; see `Launcher`."""
        found = await super().find(facts, exit_file, lock)
        return found and replace(found, launcher=SYSTEMD, cgroup=kernel_cgroup_of(found.shim.pid))

    def confine(self, plan: LaunchPlan, shim: int) -> Mapping[str, float]:
        """Have a shim that was forked put into a scope of its own, in which it forks the kernel.

        Returns
        -------
        mapping
            The limits that hold: the machine's may be stricter than what is asked for.

        Raises
        ------
        StartFailedError
            If that is refused.
        """
        body = {
            "name": plan.name,
            "generation": plan.generation,
            "pid": shim,
            "limits": dict(plan.limits),
        }
        try:
            limits: Mapping[str, float] = self._front.post("/v1/scopes", body)["limits"]
        except KconndError as error:
            raise StartFailedError(
                f"having a scope made for {plan.name}: {error.message}", hint=error.hint
            ) from error
        return limits

    def _ask(self, plan: LaunchPlan, file: Path) -> str:
        body = {
            "name": plan.name,
            "generation": plan.generation,
            "program": self.shim(),
            "plan": str(file),
            "limits": dict(plan.limits),
        }
        return str(self._front.post("/v1/units", body)["unit"])


async def _begun(plan: LaunchPlan, unit: str) -> dict[str, Any]:
    """Wait until the shim has said that the kernel has begun, or why it has not."""
    try:
        async with asyncio.timeout(LIMIT):
            while True:
                facts = _read(plan.files.facts)
                if facts.get("generation") == plan.generation and "errno" in facts:
                    return facts
                await asyncio.sleep(GLANCE)
    except TimeoutError:
        raise StartFailedError(
            f"launching {plan.name}: its unit {unit} did not begin within {LIMIT:g} s",
            hint=f"journalctl -u {unit} may tell why",
        ) from None


def _read(path: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(read_regular(path, MAX_OWN_BYTES))
    except (OSError, ValueError):
        return {}
    return found
