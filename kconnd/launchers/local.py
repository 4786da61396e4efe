"""Kernels as plain processes of this user, each with a shim.

The daemon's part in a kernel's life ends where the shim's begins: it hands over the plan and
a locked file, and reads who the kernel is. From then on everything goes by pidfd, so it makes
no difference whether the daemon that launched a kernel or a later one looks after it.
"""

import asyncio
import contextlib
import importlib.util
import json
import logging
import marshal
import os
import signal
from pathlib import Path
from typing import Any

from kconnd.core.kernel.events import Step
from kconnd.core.launch.kernel_files import spare_exit_of
from kconnd.core.launch.plan import LaunchPlan
from kconnd.errors import StartFailedError
from kconnd.launchers.base import Exit, Handle, parse_handle
from kconnd.launchers.shim_process import ShimSpawner
from kconnd.system.files.private import is_locked, write_private
from kconnd.system.files.regular import MAX_OWN_BYTES, read_regular
from kconnd.system.process import cgroups
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
SHIM = Path(__file__).parents[1] / "programs/shim.py"  # to import it would cost the daemon 0.8 MB
EXIT_AT = 2048  # where the exit begins in the locked file, if it is there: `kconnd.programs.shim`
MOMENT = 5.0  # seconds in which a shim that has been spawned says who its kernel is
DYING = 1.0  # seconds in which a process that has let go of its lock ends
GLANCE = 0.01  # seconds between looks: nothing tells when it has

log = logging.getLogger("kconnd")


class LocalLauncher:
    """Launches kernels on this machine, as the user that the daemon runs as.

    Parameters
    ----------
    folder : Path
        Private; the compiled shim is kept there.
    """

    def __init__(self, folder: Path) -> None:
        self._program = folder / "shim.pyc"
        self._compiled = False
        self._shims = ShimSpawner(self.shim)

    def shim(self) -> str:
        """Give the shim compiled, which spares each one 0.9 MB and 2 ms; else its source."""
        if not (self._compiled and self._program.exists()):
            try:
                write_private(self._program, _compiled(SHIM))
            except OSError:  # a full disk
                return str(SHIM)
            self._compiled = True
        return str(self._program)

    async def launch(self, plan: LaunchPlan) -> Handle:
        """Start a shim with this plan; see `Launcher`."""
        facts, trouble = await self._shims.start(plan)
        return await begun({"launcher": LOCAL, **facts}, plan, trouble)

    def close(self) -> None:
        """Let go of what was made ready for the next kernel."""
        self._shims.close()

    async def prepare(self, plan: LaunchPlan) -> None:
        """Do nothing: a cold start is a cold start."""

    def expect(self, asked: int) -> None:
        """Do nothing, for the same reason."""

    async def wait(self, handle: Handle) -> Exit:
        """Wait for the end; a shim that died first leaves the kernel to be waited for.

        What such a kernel has left behind is then ended here, where it has a cgroup for itself.
        """
        await wait_for_end(handle.shim)
        await wait_for_end(handle.kernel)
        found = _read_exit(handle)
        if found.lost and handle.cgroup:
            try:
                await cgroups.terminate_members(handle.cgroup)
            except OSError as error:  # it has ended all the same
                log.error("ending what is left in %s: %s", handle.cgroup, error)  # noqa: TRY400
        return found

    async def stop(self, handle: Handle, step: Step) -> None:
        """Send SIGTERM to the group, or SIGKILL to every process."""
        if step is Step.KILL:
            for process in (handle.kernel, *_below(handle)):
                send_signal(process, signal.SIGKILL)
        else:
            await self.signal(handle, signal.SIGTERM)

    async def signal(self, handle: Handle, number: int) -> None:
        """Signal the kernel's process group."""
        if is_alive(handle.kernel):
            signal_group(handle.kernel, number)

    async def adopt(self, handle: Handle) -> str:
        """Prove that the process is the one that was launched: boot, pid, start time and lock.

        A lock file that somebody has removed proves nothing, neither way.
        """
        if handle.boot_id != boot_id():
            return ""
        if is_alive(handle.shim) and not Path(handle.lock).exists():  # noqa: ASYNC240  # short
            return "start time and boot, its lock file being gone"
        if is_alive(handle.shim) and is_locked(Path(handle.lock)):
            return "start time, boot and lock"
        # A process that is dying lets go of its lock before it has ended.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DYING):
                await wait_for_end(handle.shim, reap=False)
        if is_alive(handle.shim) or not is_alive(handle.kernel):
            return ""
        return "start time and boot, its shim being dead"

    async def find(self, facts: str, exit_file: str, lock: str) -> Handle | None:
        """Read what the shim wrote into its facts or into its lock; see `Launcher`."""
        found = _read_facts(facts, exit_file, lock)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MOMENT):
                while not (found and is_alive(found.shim)) and is_locked(Path(lock)):
                    await asyncio.sleep(GLANCE)  # a shim has been spawned and is not ready to say
                    found = _read_facts(facts, exit_file, lock)
        return found


async def begun(facts: dict[str, Any], plan: LaunchPlan, trouble: str) -> Handle:
    """Make a handle from what a shim answered.

    Raises
    ------
    StartFailedError
        If it had trouble to tell of, and so there is no kernel.
    """
    handle = _handle(facts, plan.files.facts, plan.files.exit, plan.files.lock)
    if trouble:
        await wait_for_end(handle.shim)
        raise refused(plan, trouble)
    return handle


def _compiled(source: Path) -> bytes:
    """Compile a program to the form that Python runs as a file; PEP 552 has its head."""
    code = compile(source.read_bytes(), str(source), "exec", dont_inherit=True, optimize=2)
    return importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)


def _read_facts(facts: str, exit_file: str, lock: str) -> Handle | None:
    """Read the facts of a shim of any released version; fields have only been added.

    Where they are gone or older, the locked file has those of a live shim, too. A dead one's say
    nothing: a warm kernel that was ended can have left its lock under a name that it never got.
    Those of another pid namespace say nothing of a process here.
    """
    found, here = [], pid_namespace()
    for path in (facts, lock):
        try:
            content = json.loads(read_regular(path, MAX_OWN_BYTES).partition(b"\n")[0])
            if content.get("pid_namespace", here) == here:
                handle = _handle(content, facts, exit_file, lock)
                if path == facts or is_alive(handle.shim):
                    found.append(handle)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    alive = [one for one in found if is_alive(one.shim)]
    return next(iter((*alive, *found)), None)


def _below(handle: Handle) -> list[ProcessId]:
    return descendants(handle.shim if is_alive(handle.shim) else handle.kernel)


def _handle(content: dict[str, Any], facts: str, exit_file: str, lock: str) -> Handle:
    paths = {"facts": facts, "exit_file": exit_file, "lock": lock}
    return parse_handle({"launcher": LOCAL, **content, **paths})


def _read_exit(handle: Handle) -> Exit:
    """Read what the shim wrote of the end, in the first of its places that has it."""
    spare_exit = spare_exit_of(handle.facts, handle.lock)
    for path, at in ((handle.exit_file, 0), (spare_exit, 0), (handle.lock, EXIT_AT)):
        try:
            content = json.loads(read_regular(path, MAX_OWN_BYTES)[at:].partition(b"\n")[0])
            if content["generation"] == (handle.launch or handle.generation):
                return _parse_exit(content)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return Exit()


def _parse_exit(content: dict[str, Any]) -> Exit:
    return Exit(
        content["code"],
        content["signal"],
        content["at"],
        oom=bool(content.get("oom")),
        oom_own=bool(content.get("oom_own", True)),  # older shims did not tell
        oom_above=str(content.get("oom_above", "")),
        unit_stopped=bool(content.get("unit_stopped")),
    )


def refused(plan: LaunchPlan, trouble: str) -> StartFailedError:
    """Say why a kernel never began, from what its shim told: an errno and a step."""
    return StartFailedError(_explain(plan, trouble), hint=_cure(plan, trouble))


def _explain(plan: LaunchPlan, trouble: str) -> str:
    number, _, step = trouble.partition(" ")
    what = f"entering the folder {plan.cwd}" if step == "cwd" else f"running {plan.argv[0]}"
    return f"{what}: {os.strerror(int(number))}"


def _cure(plan: LaunchPlan, trouble: str) -> str:
    if trouble.endswith("cwd"):
        return f"make {plan.cwd} a folder that its user can enter, or change 'cwd' in the profile"
    return f"install {plan.argv[0]}, or name another interpreter or command in the profile"
