"""Launch kernels by forking a zygote that has already imported ipykernel.

A zygote (`kconnd.programs.zygote`) runs the profile's interpreter and forks a shim for each kernel.
A forked shim supervises its kernel like any other shim. Apart from the launch, a `ForkLauncher`
therefore works like a `LocalLauncher`. A fork takes a fraction of the time of a cold start,
which starts a new interpreter. A kernel that cannot be forked is started cold, and the handle
contains the reason.
"""

import asyncio
import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from kconnd.core.launch.forking import Parent, choose_open_files, choose_parent, wants_more_files
from kconnd.core.launch.kernelspec_file import python_module
from kconnd.core.launch.plan import LaunchPlan
from kconnd.errors import LockedError
from kconnd.launchers.base import Handle, Launcher
from kconnd.launchers.confinement import Scopes, with_limits
from kconnd.launchers.local import LocalLauncher, handle_of
from kconnd.launchers.shim_plan import (
    INITIAL_FILE_LIMITS,
    plan_records,
    set_file_limits,
    still_there,
)
from kconnd.launchers.zygote_process import (
    DEFAULT_TIMEOUTS,
    StaleError,
    UnforkableError,
    ZygoteProcess,
    ZygoteTimeouts,
)
from kconnd.system.files.private import take_lock
from kconnd.system.process.cgroups import kernel_cgroup_of

FORK = "fork"
MAX_ZYGOTES = 8  # per daemon; beyond this number, the least recently used zygote is closed

log = logging.getLogger("kconnd")


class ForkLauncher(LocalLauncher):
    """Launches kernels by fork if the forked kernel would equal a kernel that is started cold.

    Parameters
    ----------
    folder : Path
        A private folder for the compiled shim.
    cold : Launcher
        The launcher of kernels that cannot be forked.
    scopes : Scopes, optional
        Moves a shim into a new scope for shim and kernel.
    timeouts : ZygoteTimeouts
        The time limits for zygotes.
    """

    def __init__(
        self,
        folder: Path,
        cold: Launcher,
        scopes: Scopes | None = None,
        timeouts: ZygoteTimeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        super().__init__(folder, scopes)
        self._cold, self._timeouts = cold, timeouts
        # Ordered by last use; the most recently used zygote is the last.
        self._zygotes: dict[Parent, ZygoteProcess] = {}
        self._zygotes_lock = threading.Lock()

    async def launch(self, plan: LaunchPlan) -> Handle:
        """Fork a shim with this plan; see `Launcher`."""
        reasons: dict[str, str] = {}
        try:
            facts, failure = await asyncio.to_thread(self._fork, plan, reasons)
        except UnforkableError as error:
            handle = await self._cold.launch(plan)
            return replace(handle, note=f"not forked: {error}")
        handle = await handle_of({"launcher": FORK, **facts}, plan, failure)
        cgroup = kernel_cgroup_of(handle.shim.pid) if self._needs_scope(plan) else ""
        return with_limits(replace(handle, cgroup=cgroup), plan, reasons)

    async def find(self, facts: str, exit_file: str, lock: str) -> Handle | None:
        """Find an unrecorded launch by the shim's facts; see `Launcher`."""
        handle = await super().find(facts, exit_file, lock)
        return handle and replace(handle, launcher=FORK)

    async def prepare(self, plan: LaunchPlan) -> None:
        """Spawn the zygote for this plan and wait until the zygote is ready."""
        with contextlib.suppress(UnforkableError, StaleError):  # the launch will report the error
            await asyncio.to_thread(lambda: self._zygote(plan).wait_until_ready())

    def expect(self, requested_at_ns: int) -> None:
        """Let the most recently used zygote check for changed files while the plan is made."""
        for zygote in list(self._zygotes.values())[-1:]:
            zygote.announce(requested_at_ns)

    def close(self) -> None:
        """Close all zygotes; their kernels keep running."""
        for zygote in self._zygotes.values():
            zygote.close()
        self._zygotes.clear()

    def _fork(self, plan: LaunchPlan, reasons: dict[str, str]) -> tuple[dict[str, Any], str]:
        if wants_more_files(plan.limits, INITIAL_FILE_LIMITS):
            hard = INITIAL_FILE_LIMITS[1]
            raise UnforkableError(f"open_files: its zygote may have {hard} at most")
        try:
            lock = take_lock(Path(plan.files.lock), f"a shim of kernel {plan.name}")
        except LockedError as error:
            raise still_there(plan, error.message) from error
        try:
            Path(plan.files.exit).unlink(missing_ok=True)
            return self._fork_from_current_zygote(plan, lock, reasons)
        finally:
            os.close(lock)

    def _fork_from_current_zygote(
        self, plan: LaunchPlan, lock: int, reasons: dict[str, str]
    ) -> tuple[dict[str, Any], str]:
        """Fork a shim from the plan's zygote; if that zygote is stale, from a new zygote."""
        for _ in range(2):
            zygote = self._zygote(plan)
            try:
                return self._exchange(zygote, plan, lock, reasons)
            except StaleError as error:
                self._remove(zygote)
                reason = str(error)
                log.info("%s: forking it from a new zygote: %s", plan.name, reason)
        raise UnforkableError(f"{reason}, and the previous zygote had the same problem")

    def _exchange(
        self, zygote: ZygoteProcess, plan: LaunchPlan, lock: int, reasons: dict[str, str]
    ) -> tuple[dict[str, Any], str]:
        """Fork a shim, send the plan to the shim, and read the shim's answer.

        A zygote that does not answer in time is closed, but may still fork a shim. Each request has
        its own pipes, which are closed by then: the late shim reads no plan and exits.
        """
        plan_read, plan_write = os.pipe()
        answer_read, answer_write = os.pipe()
        requested_at_ns = plan.asked or time.monotonic_ns()
        confined = self._needs_scope(plan)
        with os.fdopen(plan_write, "wb") as sending, os.fdopen(answer_read, "rb") as receiving:
            try:
                descriptors = (plan_read, answer_write, lock)
                shim = zygote.fork(requested_at_ns, descriptors, confines=confined)
            finally:
                os.close(plan_read)
                os.close(answer_write)
            # At this point, the shim waits for its plan. After it has read the plan, the shim sets
            # these file limits for the child that it forked early.
            limits = plan.limits
            if confined and self._scopes is not None:
                confinement = self._scopes.confine(plan, shim)
                limits, confined = confinement.limits, confinement.is_confined
                reasons.update(confinement.reasons)
            set_file_limits(shim, choose_open_files(limits, INITIAL_FILE_LIMITS))
            # A broken pipe means that the shim has died; its answer, if any, contains the reason.
            with contextlib.suppress(BrokenPipeError):
                sending.write(b"".join(_records(plan, confined=confined)))
                sending.close()
            line, _, failure = receiving.read().decode(errors="replace").partition("\n")
        if not line:
            raise UnforkableError("the forked shim exited without an answer")
        return json.loads(line), failure

    def _zygote(self, plan: LaunchPlan) -> ZygoteProcess:
        """Return the zygote for a plan; spawn a new zygote if none is usable."""
        spec = choose_parent(plan.argv, plan.env, plan.cwd, plan.preload)
        if isinstance(spec, str):
            raise UnforkableError(spec)
        with self._zygotes_lock:
            zygote = self._zygotes.pop(spec, None)
            if zygote is not None and not zygote.is_usable():
                zygote.close()
                zygote = None
            if zygote is None:
                zygote = ZygoteProcess(spec, self._timeouts)
            self._zygotes[spec] = zygote
            while len(self._zygotes) > MAX_ZYGOTES:
                self._zygotes.pop(next(iter(self._zygotes))).close()
        return zygote

    def _remove(self, zygote: ZygoteProcess) -> None:
        with self._zygotes_lock:
            if self._zygotes.get(zygote.spec) is zygote:
                del self._zygotes[zygote.spec]
        zygote.close()


def _records(plan: LaunchPlan, *, confined: bool) -> Iterator[bytes]:
    """Encode the plan, with the additional records for a forked shim."""
    command = python_module(plan.argv)
    assert command is not None  # noqa: S101  # `choose_parent` has parsed it
    more = [("module_at", str(len(plan.argv) - len(command.args) - 1))]
    if confined:
        more.append(("cgroup", "1"))
    return plan_records(plan, *more)
