"""Launch kernels as transient systemd services with cgroup limits.

The shim is the main process of the unit. The front door creates the unit and sets its user. The
unit contains no secrets. After the shim has reported its kernel, the daemon controls the kernel
through pidfds, as `LocalLauncher` does. If the daemon dies earlier, the next daemon finds the
kernel through the facts that the shim wrote.
"""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from kconnd.client import Client
from kconnd.core.launch.plan import LaunchPlan
from kconnd.errors import KconndError, StartFailedError
from kconnd.launchers.base import Handle
from kconnd.launchers.confinement import Confinement, with_limits
from kconnd.launchers.local import LocalLauncher, start_failure
from kconnd.launchers.shim_plan import plan_records, still_there
from kconnd.system.files.private import is_locked, write_private
from kconnd.system.files.regular import MAX_OWN_BYTES, read_regular
from kconnd.system.process.cgroups import kernel_cgroup_of
from kconnd.system.process.processes import wait_for_end

SYSTEMD = "systemd"
START_LIMIT_S = 30.0  # the limit until the shim has reported its kernel
POLL_INTERVAL_S = 0.005  # the facts file is polled, because there is no event for a write


class SystemdLauncher(LocalLauncher):
    """Launches kernels through the front door.

    Parameters
    ----------
    folder : Path
        A private folder for the compiled shim and the plans.
    front : Path
        The front door's socket.
    """

    def __init__(self, folder: Path, front: Path) -> None:
        super().__init__(folder)
        self._front = Client(str(front))

    async def launch(self, plan: LaunchPlan) -> Handle:
        """Request a unit for the plan; see `Launcher`."""
        if is_locked(Path(plan.files.lock)):
            raise still_there(plan, f"the lock {plan.files.lock} is held")
        file = Path(plan.files.unit_plan)
        options = (("lock_file", plan.files.lock), ("report", "1"), ("cgroup", "1"))
        Path(plan.files.facts).unlink(missing_ok=True)  # noqa: ASYNC240  # short
        Path(plan.files.exit).unlink(missing_ok=True)  # noqa: ASYNC240  # short
        write_private(file, b"".join(plan_records(plan, *options)))
        try:
            unit = await asyncio.to_thread(self._request_unit, plan, file)
            facts = await _wait_for_facts(plan, unit)
        except KconndError as error:
            file.unlink(missing_ok=True)  # noqa: ASYNC240  # short
            if isinstance(error, StartFailedError):
                raise
            raise StartFailedError(
                f"requesting a unit for {plan.name}: {error.message}", hint=error.hint
            ) from error
        handle = await self.find(plan.files.facts, plan.files.exit, plan.files.lock)
        if handle is None:
            raise StartFailedError(f"launching {plan.name}: its shim exited at once")
        if facts["errno"] is not None:
            await wait_for_end(handle.shim)
            raise await start_failure(plan, f"{facts['errno']} {facts['step']}")
        return with_limits(handle, plan, {})

    async def find(self, facts: str, exit_file: str, lock: str) -> Handle | None:
        """Find an unrecorded launch by the shim's facts; see `Launcher`."""
        handle = await super().find(facts, exit_file, lock)
        if handle is None:
            return None
        return replace(handle, launcher=SYSTEMD, cgroup=kernel_cgroup_of(handle.shim.pid))

    def needs_scope(self, plan: LaunchPlan) -> bool:  # noqa: ARG002  # see `Scopes`
        """Return True: on a server, each forked kernel gets a scope."""
        return True

    def confine(self, plan: LaunchPlan, shim: int) -> Confinement:
        """Move a forked shim into a new scope; the shim then forks the kernel in this scope.

        Raises
        ------
        StartFailedError
            If the front door refuses.
        """
        body = {
            "name": plan.name,
            "generation": plan.generation,
            "pid": shim,
            "limits": dict(plan.limits),
        }
        try:
            limits: dict[str, float] = self._front.post("/v1/scopes", body)["limits"]
        except KconndError as error:
            raise StartFailedError(
                f"requesting a scope for {plan.name}: {error.message}", hint=error.hint
            ) from error
        return Confinement(limits)

    def _request_unit(self, plan: LaunchPlan, file: Path) -> str:
        body = {
            "name": plan.name,
            "generation": plan.generation,
            "program": self.shim(),
            "plan": str(file),
            "limits": dict(plan.limits),
        }
        return str(self._front.post("/v1/units", body)["unit"])


async def _wait_for_facts(plan: LaunchPlan, unit: str) -> dict[str, Any]:
    """Wait until the shim has reported the start of the kernel or a failure."""
    try:
        async with asyncio.timeout(START_LIMIT_S):
            while True:
                facts = _read(plan.files.facts)
                if facts.get("generation") == plan.generation and "errno" in facts:
                    return facts
                await asyncio.sleep(POLL_INTERVAL_S)
    except TimeoutError:
        raise StartFailedError(
            f"launching {plan.name}: its unit {unit} did not start within {START_LIMIT_S:g} s",
            hint=f"journalctl -u {unit} may show the reason",
        ) from None


def _read(path: str) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(read_regular(path, MAX_OWN_BYTES))
    except (OSError, ValueError):
        return {}
    return facts
