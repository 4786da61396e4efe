"""Launch kernels as ordinary processes of this user, each with a shim.

The daemon passes the plan and a locked file to the shim, and reads the kernel's pid and start time
from the shim's answer. From then on, the daemon controls the kernel through pidfds alone. A later
daemon can open pidfds of the same processes.
"""

import asyncio
import contextlib
import importlib.util
import json
import logging
import marshal
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from kconnd.core.kernel.events import Step
from kconnd.core.launch.kernel_files import spare_exit_of
from kconnd.core.launch.plan import LaunchPlan
from kconnd.errors import StartFailedError
from kconnd.launchers.base import ExitStatus, Handle, parse_handle
from kconnd.launchers.confinement import Scopes, with_limits
from kconnd.launchers.shim_process import ShimSpawner
from kconnd.system.files.private import is_locked, write_private
from kconnd.system.files.program_faults import describe_failed_exec, explain_failed_chdir
from kconnd.system.files.regular import MAX_OWN_BYTES, read_regular
from kconnd.system.process import cgroups
from kconnd.system.process.cgroups import kernel_cgroup_of
from kconnd.system.process.processes import (
    ProcessId,
    boot_id,
    descendants,
    is_alive,
    pid_namespace,
    send_signal,
    signal_group,
    wait_for_end,
)

LOCAL = "local"
# The daemon does not import the shim, because the import would cost 0.8 MB.
SHIM = Path(__file__).parents[1] / "programs/shim.py"
EXIT_OFFSET = 2048  # the offset of the exit status in a lock file, as in kconnd.programs.shim
SHIM_START_LIMIT_S = 5.0  # the limit until a spawned shim reports its kernel
EXIT_LIMIT_S = 1.0  # the limit from a process's release of its lock to its exit
POLL_INTERVAL_S = 0.01  # the facts file is polled, because there is no event for a write

log = logging.getLogger("kconnd")


class LocalLauncher:
    """Launches kernels on this machine, as the user that the daemon runs as.

    Parameters
    ----------
    folder : Path
        A private folder for the compiled shim.
    scopes : Scopes, optional
        Creates scopes for kernels with limits; None: such kernels get no scope.
    """

    def __init__(self, folder: Path, scopes: Scopes | None = None) -> None:
        self._scopes = scopes
        self._program = folder / "shim.pyc"
        self._compiled = False
        self._shims = ShimSpawner(self.shim)

    def shim(self) -> str:
        """Compile the shim unless it is already compiled; return the path of the compiled file.

        A compiled shim saves 0.9 MB and 2 ms per kernel. If the compiled file cannot be written,
        return the path of the source.
        """
        if not (self._compiled and self._program.exists()):
            try:
                write_private(self._program, _compiled(SHIM))
            except OSError:  # for example, the disk is full
                return str(SHIM)
            self._compiled = True
        return str(self._program)

    async def launch(self, plan: LaunchPlan) -> Handle:
        """Start a shim with the plan; see `Launcher`."""
        reasons: dict[str, str] = {}
        has_scope = bool(plan.limits) and self._needs_scope(plan)
        confine = partial(self._confine, plan, reasons) if has_scope else None
        facts, trouble = await self._shims.start(plan, confine)
        handle = await handle_of({"launcher": LOCAL, **facts}, plan, trouble)
        if not plan.limits:  # the most frequent case
            return handle
        cgroup = kernel_cgroup_of(handle.shim.pid) if confine else ""
        return with_limits(replace(handle, cgroup=cgroup), plan, reasons)

    def _needs_scope(self, plan: LaunchPlan) -> bool:
        return self._scopes is not None and self._scopes.needs_scope(plan)

    def _confine(self, plan: LaunchPlan, reasons: dict[str, str], shim: int) -> bool:
        """Move a shim into a scope; return whether it is in one.

        The reasons why limits are not enforced are added to ``reasons``.
        """
        assert self._scopes is not None  # noqa: S101  # `_needs_scope` has checked it
        confinement = self._scopes.confine(plan, shim)
        reasons.update(confinement.reasons)
        return confinement.is_confined

    def close(self) -> None:
        """Dismiss the spare shim."""
        self._shims.close()

    async def prepare(self, plan: LaunchPlan) -> None:
        """Do nothing: a cold start cannot be prepared."""

    def expect(self, requested_at_ns: int) -> None:
        """Do nothing: a cold start cannot be prepared."""

    async def wait(self, handle: Handle) -> ExitStatus:
        """Wait until the shim and the kernel have exited.

        If the shim dies before the kernel and the kernel has its own cgroup, this method terminates
        the remaining processes of the cgroup.
        """
        await wait_for_end(handle.shim)
        await wait_for_end(handle.kernel)
        status = _read_exit(handle)
        if status.lost and handle.cgroup:
            try:
                await cgroups.terminate_members(handle.cgroup)
            except OSError as error:  # the kernel itself has exited
                log.error("terminating the processes in %s: %s", handle.cgroup, error)
        return status

    async def stop(self, handle: Handle, step: Step) -> None:
        """Send SIGTERM to the kernel's process group; in the step KILL, send SIGKILL.

        SIGKILL is sent to all processes of the kernel, including those in other process groups.
        """
        if step is Step.KILL:
            for process in (handle.kernel, *_below(handle)):
                send_signal(process, signal.SIGKILL)
        else:
            await self.signal(handle, signal.SIGTERM)

    async def signal(self, handle: Handle, number: int) -> None:
        """Send a signal to the kernel's process group."""
        if is_alive(handle.kernel):
            signal_group(handle.kernel, number)

    async def adopt(self, handle: Handle) -> str:
        """Prove by boot id, start time and lock that the kernel is alive; see `Launcher`.

        If the lock file was removed or the shim is dead, boot id and start time suffice.
        """
        if handle.boot_id != boot_id():
            return ""
        if is_alive(handle.shim) and not Path(handle.lock).exists():  # noqa: ASYNC240  # short
            return "start time and boot, without the lock file, which is gone"
        if is_alive(handle.shim) and is_locked(Path(handle.lock)):
            return "start time, boot and lock"
        # A shim that exits releases its lock shortly before its process ends.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EXIT_LIMIT_S):
                await wait_for_end(handle.shim, reap=False)
        if is_alive(handle.shim) or not is_alive(handle.kernel):
            return ""
        return "start time and boot, without the shim, which is dead"

    async def find(self, facts: str, exit_file: str, lock: str) -> Handle | None:
        """Find an unrecorded launch by the facts in the facts file or lock file; see `Launcher`."""
        handle = _read_facts(facts, exit_file, lock)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHIM_START_LIMIT_S):
                # If the lock is held and there are no facts, the shim has started but has not
                # written its facts yet.
                while not (handle and is_alive(handle.shim)) and is_locked(Path(lock)):
                    await asyncio.sleep(POLL_INTERVAL_S)
                    handle = _read_facts(facts, exit_file, lock)
        return handle and replace(handle, cgroup=kernel_cgroup_of(handle.shim.pid))


async def handle_of(facts: dict[str, Any], plan: LaunchPlan, trouble: str) -> Handle:
    """Create a handle from a shim's answer.

    Parameters
    ----------
    facts : dict
        The facts in the answer.
    plan : LaunchPlan
        The plan of the launch.
    trouble : str
        The errno and the step that failed; ``""`` if none failed.

    Raises
    ------
    StartFailedError
        If a step failed and no kernel was started.
    """
    handle = _handle(facts, plan.files.facts, plan.files.exit, plan.files.lock)
    if trouble:
        await wait_for_end(handle.shim)
        raise await start_failure(plan, trouble)
    return handle


def _compiled(source: Path) -> bytes:
    """Compile a program to the content of a pyc file, with the header of PEP 552."""
    code = compile(source.read_bytes(), str(source), "exec", dont_inherit=True, optimize=2)
    return importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)


def _read_facts(facts: str, exit_file: str, lock: str) -> Handle | None:
    """Read a shim's facts from the facts file or the lock file; None if there are no facts.

    Facts of a live shim are preferred. The facts in the lock file are used only while their shim is
    alive: if a daemon died during a hand-over, the lock file of the named kernel can be that of a
    warm kernel that was terminated afterwards. Facts of another pid namespace are ignored, because
    their pids are not valid in this namespace. The facts of every released version can be read,
    because newer versions add fields and change none.
    """
    handles, namespace = [], pid_namespace()
    for path in (facts, lock):
        try:
            content = json.loads(read_regular(path, MAX_OWN_BYTES).partition(b"\n")[0])
            if content.get("pid_namespace", namespace) == namespace:
                handle = _handle(content, facts, exit_file, lock)
                if path == facts or is_alive(handle.shim):
                    handles.append(handle)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    alive = [handle for handle in handles if is_alive(handle.shim)]
    return next(iter((*alive, *handles)), None)


def _below(handle: Handle) -> list[ProcessId]:
    return descendants(handle.shim if is_alive(handle.shim) else handle.kernel)


def _handle(content: dict[str, Any], facts: str, exit_file: str, lock: str) -> Handle:
    paths = {"facts": facts, "exit_file": exit_file, "lock": lock}
    return parse_handle({"launcher": LOCAL, **content, **paths})


def _read_exit(handle: Handle) -> ExitStatus:
    """Read the exit status from the first of the shim's files that contains one."""
    spare_exit = spare_exit_of(handle.facts, handle.lock)
    for path, offset in ((handle.exit_file, 0), (spare_exit, 0), (handle.lock, EXIT_OFFSET)):
        try:
            content = json.loads(read_regular(path, MAX_OWN_BYTES)[offset:].partition(b"\n")[0])
            if content["generation"] == (handle.launch or handle.generation):
                return _parse_exit(content)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return ExitStatus()


def _parse_exit(content: dict[str, Any]) -> ExitStatus:
    return ExitStatus(
        content["code"],
        content["signal"],
        content["at"],
        oom=bool(content.get("oom")),
        oom_own=bool(content.get("oom_own", True)),  # older shims did not write this field
        oom_above=str(content.get("oom_above", "")),
        unit_stopped=bool(content.get("unit_stopped")),
    )


async def start_failure(plan: LaunchPlan, trouble: str) -> StartFailedError:
    """Create the error of a failed start from the errno and the step that the shim reported."""
    number, _, step = trouble.partition(" ")
    if step == "cwd":
        fault = explain_failed_chdir(plan.cwd, int(number))
        return StartFailedError(fault.reason, hint=fault.hint)
    # In a thread, because the program can be on a file server that has begun to hang.
    fault = await asyncio.to_thread(
        describe_failed_exec, plan.argv[0], plan.cwd, plan.env.get("PATH", ""), int(number)
    )
    return StartFailedError(fault.reason, hint=fault.hint)
