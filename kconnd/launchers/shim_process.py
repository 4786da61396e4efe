"""Spawning shims: how one gets its plan, and one that is there before there is a plan.

To begin an interpreter is most of what a shim takes, and so of what kconnd adds to a start. Once a
kernel has been started, a spare shim is spawned for the next.

Rules. A spare knows nothing, and has nothing but two pipes: it ends when the daemon does, whatever
that ends by. What it does not do, because it is gone, a new one does.
"""

import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kconnd.core.launch.plan import LaunchPlan
from kconnd.errors import LockedError, StartFailedError, StillThereError
from kconnd.system.files.private import is_locked, take_lock

# Open files that this process may have, as it began: the daemon raises its own limit later.
OPEN_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)
QUIET = 0.5  # seconds without a start until a spare is spawned: it is to be in nobody's way
ROOM = " " * 100  # in the command line of a spare, for the name of its kernel


@dataclass(frozen=True)
class Shim:
    """A process that waits for its plan.

    Parameters
    ----------
    pid : int
        Of our child. Once it has answered, it is known by its pidfd, and its end is waited for so.
    plan, answer : int
        Descriptors: where it reads its plan, and where it says who the kernel is.
    """

    pid: int
    plan: int
    answer: int

    def exchange(self, plan: bytes) -> str:
        """Send the plan and read the answer, which ends when the shim closes its side."""
        with open(self.plan, "wb") as ours, open(self.answer, "rb") as theirs:  # noqa: PTH123  # descriptors
            with contextlib.suppress(BrokenPipeError):  # it died: what it said is all there is
                ours.write(plan)
                ours.close()
            return theirs.read().decode(errors="replace")

    def wait(self) -> None:
        """Wait for its end."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def let_go(self) -> None:
        """Have one end that has no plan."""
        os.close(self.plan)
        os.close(self.answer)
        self.wait()


def spawn(program: str, name: str, *kept: int) -> Shim:
    """Begin a shim of a kernel, which inherits these descriptors.

    Raises
    ------
    OSError
        If there can be none: no processes are left, or no descriptors.
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
            pass_fds=kept,
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
    process.returncode = 0  # what its end is, others see to; so Popen lets go of it
    shim = Shim(process.pid, plan, answer)
    try:
        limit_files(shim.pid, OPEN_FILES)  # it waits for its plan, and has no child yet
    except BaseException:
        shim.let_go()
        raise
    return shim


class Shims:
    """Starts kernels by shims, and has one to spare.

    Parameters
    ----------
    program : callable
        Gives the path of the shim's program.
    """

    def __init__(self, program: Callable[[], str]) -> None:
        self._program = program
        self._spares: deque[Shim] = deque()  # threads may take from it; there is hardly ever more
        self._refill: asyncio.TimerHandle | None = None

    async def start(self, plan: LaunchPlan) -> tuple[dict[str, Any], str]:
        """Start a kernel; give the facts of it, and why it is none, if so.

        Raises
        ------
        StillThereError
            If it has a shim already.
        StartFailedError
            If its shim says nothing.
        """
        try:
            return await asyncio.to_thread(self._start, plan)
        finally:
            self._stop_waiting()
            loop = asyncio.get_running_loop()
            self._refill = loop.call_later(QUIET, loop.run_in_executor, None, self.have_spare)

    def close(self) -> None:
        """Let go of the spare one."""
        self._stop_waiting()
        while spare := self._take():
            spare.let_go()

    def have_spare(self) -> None:
        """Spawn a shim for the next kernel, unless there is one."""
        if not self._spares:
            with contextlib.suppress(OSError):  # the next kernel's start will tell
                self._spares.append(spawn(self._program(), ROOM))

    def _stop_waiting(self) -> None:
        if self._refill is not None:
            self._refill.cancel()

    def _take(self) -> Shim | None:
        try:
            return self._spares.pop()
        except IndexError:
            return None

    def _start(self, plan: LaunchPlan) -> tuple[dict[str, Any], str]:
        spare = None if is_locked(Path(plan.files.lock)) else self._take()
        answer = start_by_spare(plan, spare) if spare else ""
        line, _, trouble = (answer or start_by_new(plan, self._program())).partition("\n")
        return json.loads(line), trouble


def start_by_spare(plan: LaunchPlan, spare: Shim) -> str:
    """Have a spare shim become the kernel's; "" where it was gone, and nothing has begun."""
    try:
        text = b"".join(plan_records(plan, ("lock_file", plan.files.lock)))
        Path(plan.files.exit).unlink(missing_ok=True)
    except BaseException:
        spare.let_go()
        raise
    answer = spare.exchange(text)
    if not answer:
        spare.wait()
    return answer


def start_by_new(plan: LaunchPlan, program: str) -> str:
    """Spawn a shim for the kernel, which holds its lock from the beginning."""
    try:
        lock = take_lock(Path(plan.files.lock), f"a shim of kernel {plan.name}")
    except LockedError as error:
        raise still_there(plan, error.message) from error
    try:
        text = b"".join(plan_records(plan, ("lock", str(lock))))  # what cannot be one raises here
        Path(plan.files.exit).unlink(missing_ok=True)
        shim = spawn(program, plan.name, lock)
        answer = shim.exchange(text)
    finally:
        os.close(lock)
    if not answer:
        shim.wait()
        raise StartFailedError(
            "its shim ended without a word",
            hint="the machine may be out of memory, disk space or processes",
        )
    return answer


def limit_files(process: int, limits: tuple[int, int]) -> None:
    """Say how many files a process, and what it forks, may have open."""
    with contextlib.suppress(ProcessLookupError):  # it died: what it said tells more
        resource.prlimit(process, resource.RLIMIT_NOFILE, limits)


def plan_records(plan: LaunchPlan, *lock: tuple[str, str]) -> Iterator[bytes]:
    """Give the plan in the form that `kconnd.programs.shim` documents.

    Parameters
    ----------
    plan : LaunchPlan
        What to run.
    lock : tuple of str
        Key and value of what it says of the lock, and what else is to be in it.
    """
    values = [("name", plan.name), *(("arg", arg) for arg in plan.argv)]
    values += [("env", f"{key}={value}") for key, value in plan.env.items()]
    values += [
        ("cwd", plan.cwd),
        ("umask", f"{plan.umask:o}"),
        ("generation", str(plan.generation)),
        ("log", plan.files.log),
        ("log_max", str(plan.log_max)),
        ("log_keep", str(plan.log_keep)),
        ("facts", plan.files.facts),
        ("exit", plan.files.exit),
        *lock,
        ("end", ""),
    ]
    return (f"{key}={value}\0".encode("utf-8", "surrogateescape") for key, value in values)


def still_there(plan: LaunchPlan, why: str) -> StillThereError:
    """Say that a kernel cannot have a second process."""
    return StillThereError(
        f"an earlier process of it is still there ({why})",
        hint=f"kconnd-ctl stop {plan.name} ends it",
    )
