"""Spawns shims, and keeps a spare shim ready for the next kernel.

A kernel's start includes the start of its shim, and most of the shim's start is the start of an
interpreter. To save this time, a spare shim (a shim without a plan) is spawned after each start.
The next start sends its plan to the spare shim. A start without a usable spare shim spawns a new
shim. `LocalLauncher` is the only caller.

A spare shim holds two pipes and nothing else. A spare shim exits when the daemon exits, even if the
daemon is killed.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kconnd.core.launch.forking import choose_open_files
from kconnd.core.launch.plan import LaunchPlan
from kconnd.errors import LockedError, StartFailedError
from kconnd.launchers.shim_plan import (
    CGROUP_RECORD,
    INITIAL_FILE_LIMITS,
    plan_records,
    set_file_limits,
    still_there,
)
from kconnd.system.files.private import is_locked, take_lock

# The time from the last start of a kernel to the spawn of a spare shim. The delay keeps the spawn
# from slowing down a series of starts.
SPARE_DELAY_S = 0.5
Confine = Callable[[int], bool]  # moves a shim's pid into a scope; returns whether it is in one
NAME_ROOM = " " * 100  # reserved in the command line of a spare shim for the name of its kernel


@dataclass(frozen=True)
class ShimProcess:
    """A shim that waits for its plan.

    Parameters
    ----------
    pid : int
        The pid of the shim, a child of this process. After the shim's answer, callers use a pidfd
        instead.
    plan, answer : int
        The descriptors of two pipes. The shim reads its plan from the first and writes the facts of
        its kernel to the second.
    """

    pid: int
    plan: int
    answer: int

    def exchange(self, plan: bytes) -> str:
        """Send the plan, and read the answer until the shim closes its end of the pipe."""
        with open(self.plan, "wb") as sending, open(self.answer, "rb") as receiving:  # noqa: PTH123  # descriptors
            # A broken pipe means that the shim has died; its answer, if any, contains the reason.
            with contextlib.suppress(BrokenPipeError):
                sending.write(plan)
                sending.close()
            return receiving.read().decode(errors="replace")

    def wait(self) -> None:
        """Wait until the shim has exited."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def dismiss(self) -> None:
        """Close the pipes, so that a shim without a plan exits, and wait for its exit."""
        os.close(self.plan)
        os.close(self.answer)
        self.wait()


def spawn(program: str, name: str, *inherited: int) -> ShimProcess:
    """Spawn a shim for the kernel ``name``; for a spare shim, ``name`` is `NAME_ROOM`.

    Raises
    ------
    OSError
        If no process or no descriptor is available.
    """
    read_plan, plan = os.pipe()
    try:
        answer, write_answer = os.pipe()
    except OSError:
        os.close(read_plan)
        os.close(plan)
        raise
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", program, name],
            stdin=read_plan,
            stdout=write_answer,
            stderr=subprocess.DEVNULL,
            pass_fds=inherited,
            cwd="/",
            env={},
            start_new_session=True,
        )
    except BaseException:
        os.close(plan)
        os.close(answer)
        raise
    finally:
        os.close(read_plan)
        os.close(write_answer)
    process.returncode = 0  # tells Popen not to wait: other code waits for the exit
    shim = ShimProcess(process.pid, plan, answer)
    try:
        # The limits are set now, because the shim's future child inherits them.
        set_file_limits(shim.pid, INITIAL_FILE_LIMITS)
    except BaseException:
        shim.dismiss()
        raise
    return shim


class ShimSpawner:
    """Starts kernels through shims, and keeps one spare shim.

    Parameters
    ----------
    program : callable
        A function that returns the path of the shim's program.
    """

    def __init__(self, program: Callable[[], str]) -> None:
        self._program = program
        # Holds at most one spare shim. Two threads cannot both remove it, because pop is
        # atomic.
        self._spares: deque[ShimProcess] = deque()
        self._refill: asyncio.TimerHandle | None = None

    async def start(
        self, plan: LaunchPlan, confine: Confine | None = None
    ) -> tuple[dict[str, Any], str]:
        """Start a kernel; return its facts, and a description of the failure or ``""``.

        Parameters
        ----------
        plan : LaunchPlan
            The plan.
        confine : callable, optional
            A function that moves the shim into a scope before the shim gets the plan.

        Raises
        ------
        StillRunningError
            If an earlier shim of the kernel still runs.
        StartFailedError
            If the shim exits without an answer.
        """
        try:
            return await asyncio.to_thread(self._start, plan, confine)
        finally:
            self._cancel_refill()
            loop = asyncio.get_running_loop()
            self._refill = loop.call_later(
                SPARE_DELAY_S, loop.run_in_executor, None, self.ensure_spare
            )

    def close(self) -> None:
        """Dismiss the spare shim."""
        self._cancel_refill()
        while spare := self._take_spare():
            spare.dismiss()

    def ensure_spare(self) -> None:
        """Spawn a spare shim unless there already is one."""
        if not self._spares:
            with contextlib.suppress(OSError):  # the next start will report the error
                self._spares.append(spawn(self._program(), NAME_ROOM))

    def _cancel_refill(self) -> None:
        if self._refill is not None:
            self._refill.cancel()

    def _take_spare(self) -> ShimProcess | None:
        try:
            return self._spares.pop()
        except IndexError:
            return None

    def _start(self, plan: LaunchPlan, confine: Confine | None) -> tuple[dict[str, Any], str]:
        spare = None if is_locked(Path(plan.files.lock)) else self._take_spare()
        answer = start_with_spare(plan, spare, confine) if spare else ""
        answer = answer or start_with_new(plan, self._program(), confine)
        line, _, failure = answer.partition("\n")
        return json.loads(line), failure


def start_with_spare(plan: LaunchPlan, spare: ShimProcess, confine: Confine | None = None) -> str:
    """Send the plan to a spare shim; return its answer, or ``""`` if the spare shim had died."""
    try:
        text = b"".join(plan_records(plan, ("lock_file", plan.files.lock)))
        Path(plan.files.exit).unlink(missing_ok=True)
        text = _limit(plan, spare, text, confine)
    except BaseException:
        spare.dismiss()
        raise
    answer = spare.exchange(text)
    if not answer:
        spare.wait()
    return answer


def _limit(plan: LaunchPlan, shim: ShimProcess, text: bytes, confine: Confine | None) -> bytes:
    """Apply the limits of a plan to a shim, whose children inherit them; return the text to send.

    The shim of a kernel with its own cgroup gets a record of it.
    """
    if "open_files" in plan.limits:
        set_file_limits(shim.pid, choose_open_files(plan.limits, INITIAL_FILE_LIMITS))
    return CGROUP_RECORD + text if confine is not None and confine(shim.pid) else text


def start_with_new(plan: LaunchPlan, program: str, confine: Confine | None = None) -> str:
    """Spawn a shim that inherits the kernel's lock; return its answer."""
    try:
        lock = take_lock(Path(plan.files.lock), f"a shim of kernel {plan.name}")
    except LockedError as error:
        raise still_there(plan, error.message) from error
    try:
        # The plan is encoded first, so that an encoding error is raised before anything is changed.
        text = b"".join(plan_records(plan, ("lock", str(lock))))
        Path(plan.files.exit).unlink(missing_ok=True)
        shim = spawn(program, plan.name, lock)
        answer = shim.exchange(_limit(plan, shim, text, confine))
    finally:
        os.close(lock)
    if not answer:
        shim.wait()
        raise StartFailedError(
            f"the shim of {plan.name} exited without an answer",
            hint="check whether the machine is out of memory, disk space or processes",
        )
    return answer
