"""A kernel that a probe starts for itself alone.

The kernel has no name that a user could ask for, and is not listed. It is launched as a warm kernel
is (`kconnd.daemon.warm.maker`): after the probe it is terminated, whatever happened, and the next
daemon terminates it if this daemon is killed. Every wait has a limit, and ends early if the kernel
exits.
"""

import asyncio
import contextlib
import secrets
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kconnd.core.kernel.events import Launch
from kconnd.core.kernel.probing import Interruption
from kconnd.core.kernel.view import describe_exit, describe_oom
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.kernel_files import warm_name
from kconnd.core.launch.plan import LaunchPlan
from kconnd.core.launch.wire import Attempts, TrialFailure
from kconnd.core.profile.model import Profile
from kconnd.daemon.context import World
from kconnd.daemon.kernel.files import OUTPUT_TAIL_BYTES, find_rewriting
from kconnd.daemon.kernel.questions import FIRST_ANSWER_RETRY_S, ask_until_answered
from kconnd.daemon.kernel.wiring import Wire, prepare_wire, release_on_failure
from kconnd.daemon.warm.maker import END_TIMEOUT_S, Maker
from kconnd.launchers.base import ExitStatus, Handle
from kconnd.system.channels.kernel_listeners import list_sockets, read_exposure, read_refusal
from kconnd.system.files.private import read_tail
from kconnd.system.launch_files import LaunchFiles, check_descriptors, make_plan
from kconnd.system.process.resource_usage import count_descriptors

POLL_INTERVAL_S = 0.1  # no event reports that a process listens, or that a heartbeat is answered
STATUS_TIMEOUT_S = 3.0  # for the first status message on iopub
CELL_BEGIN_TIMEOUT_S = 5.0
SETTLE_S = 1.0  # from `busy` until a cell's code certainly runs; no message marks this moment

T = TypeVar("T")


@dataclass(frozen=True)
class ProbeLimits:
    """The times after which a probe takes it that nothing will come, in seconds.

    They are generous, because a fact of a probe is believed until the software changes.

    Parameters
    ----------
    heartbeat_s : float
        For the answer to a heartbeat.
    control_s : float
        For the reply to ``kernel_info_request`` on control.
    before_cell_s : float
        From the first answer to the first cell. ILua 0.2.1 answers before it can run a cell, and
        exits if a cell arrives in between.
    short_cell_s : float
        For the reply to a short cell.
    interrupt_s : float
        For the end of an interrupted cell; async-kernel needs up to 4 s.
    reply_lag_s : float
        From the ``idle`` of a cell to its reply.
    after_cell_s : float
        From the end of an interrupted cell to an exit of the kernel.
    shutdown_reply_s : float
        For the reply to ``shutdown_request``.
    exit_s : float
        For the exit after this reply; bash_kernel and others on its base class at times need 13 s.
    """

    heartbeat_s: float = 5.0
    control_s: float = 8.0
    before_cell_s: float = 1.0
    short_cell_s: float = 10.0
    interrupt_s: float = 8.0
    reply_lag_s: float = 2.0
    after_cell_s: float = 0.5
    shutdown_reply_s: float = 10.0
    exit_s: float = 20.0


@dataclass(frozen=True)
class FirstAnswer:
    """The outcome of a start.

    Parameters
    ----------
    reply : mapping, optional
        The content of the ``kernel_info_reply``; None if the kernel did not answer.
    waited_s : float
        Seconds from the launch to the answer or to the failure.
    failure : TrialFailure
        The way in which the start failed, if there is no reply.
    evidence : str
        The observation of the failure.
    """

    reply: Mapping[str, Any] | None
    waited_s: float
    failure: TrialFailure = TrialFailure.SILENCE
    evidence: str = ""


class StatusWatch:
    """Receives the status messages of a kernel.

    Parameters
    ----------
    world : World
        The objects that all kernels share.
    connection : ConnectionInfo
        The connection of the kernel. The watch has a connection of its own, because a connection
        does not report the status of its own requests.
    """

    def __init__(self, world: World, connection: ConnectionInfo) -> None:
        self._channels = world.connect(connection)
        self._busy: set[str] = set()
        self._idle: set[str] = set()
        self._changed = asyncio.Event()
        self._task = asyncio.ensure_future(self._channels.watch_status(self._note, lambda: None))

    def _note(self, request: str, busy: bool, _subshell: str) -> None:  # noqa: FBT001  # see `Channels`
        (self._busy if busy else self._idle).add(request)
        self._changed.set()

    async def until_heard(self) -> None:
        """Wait until the kernel has published any status."""
        await self._until(lambda: bool(self._busy or self._idle))

    async def until_busy(self, request: str) -> None:
        """Wait until the kernel has begun to work on a request."""
        await self._until(lambda: request in self._busy)

    async def until_idle(self, request: str) -> None:
        """Wait until the kernel has reported that a request is done."""
        await self._until(lambda: request in self._idle)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def close(self) -> None:
        """Close the connection."""
        self._task.cancel()
        self._channels.close()


class ProbeKernel:
    """A process that a probe has started.

    Parameters
    ----------
    world : World
        The objects that all kernels share.
    plan, wire, handle : LaunchPlan, Wire, Handle
        The plan of the launch, the connection, and the process.
    limits : ProbeLimits
        The limits of waits.
    """

    def __init__(
        self, world: World, plan: LaunchPlan, wire: Wire, handle: Handle, limits: ProbeLimits
    ) -> None:
        self._world, self._plan, self.connection = world, plan, wire.connection
        self._handle, self.limits = handle, limits
        self._launched_at = world.clock()
        self.channels = world.connect(wire.connection)
        self._exited = asyncio.ensure_future(world.launcher.wait(handle))

    def close(self) -> None:
        """Close the connection; the process is not changed."""
        self._exited.cancel()
        self.channels.close()

    # --- waiting

    async def ask(self, request: Coroutine[Any, Any, T], limit_s: float) -> T | None:
        """Return the result of a request; None if it fails, times out, or the kernel exits."""
        asking = asyncio.ensure_future(request)
        try:
            await self._wait({asking}, limit_s)
            if not asking.done():
                return None
            with contextlib.suppress(OSError, ValueError):
                return asking.result()
            return None
        finally:
            asking.cancel()

    async def _wait(self, tasks: set[asyncio.Future[Any]], limit_s: float) -> None:
        """Wait until a task is done or the kernel has exited."""
        await asyncio.wait(
            {*tasks, self._exited}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
        )

    async def wait_for_exit(self, limit_s: float) -> str:
        """Wait for the exit, and describe it; ``""`` if the kernel is still alive."""
        await self._wait(set(), limit_s)
        return self.exit_text

    @property
    def exit_text(self) -> str:
        """The description of the exit, such as "exited with code 0"; ``""`` without an exit."""
        if not self._exited.done():
            return ""
        end = self._exited.result()
        if end.oom:
            return f"was {describe_oom(own=end.oom_own, above=end.oom_above)}"
        reason = describe_exit(end.code, end.signal)
        return f"was {reason}" if reason.startswith("killed") else reason

    @property
    def last_output(self) -> str:
        """The end of the kernel's output."""
        return read_tail(Path(self._plan.files.log), OUTPUT_TAIL_BYTES)

    # --- a start

    async def first_answer(self, limit_s: float) -> FirstAnswer:
        """Wait for the first answer, or until the kernel visibly uses another wire."""
        asking = asyncio.ensure_future(ask_until_answered(self.channels, FIRST_ANSWER_RETRY_S))
        watching = asyncio.ensure_future(self._until_refused())
        try:
            await self._wait({asking, watching}, limit_s)
            waited_s = self._world.clock() - self._launched_at
            if asking.done():
                return FirstAnswer(asking.result(), waited_s)
            if self._exited.done():
                failure = _exit_failure(self._exited.result())
                return FirstAnswer(None, waited_s, failure, f"it {self.exit_text}")
            if watching.done():
                return FirstAnswer(None, waited_s, *watching.result())
            return FirstAnswer(None, waited_s, evidence=f"no answer within {waited_s:.1f} s")
        finally:
            asking.cancel()
            watching.cancel()

    async def _until_refused(self) -> tuple[TrialFailure, str]:
        while True:
            refusal = await asyncio.to_thread(read_refusal, self.connection, self._handle.shim)
            if refusal is not None:
                return refusal.failure, refusal.evidence
            await asyncio.sleep(POLL_INTERVAL_S)

    async def read_exposure(self) -> tuple[str, ...]:
        """Describe listening TCP sockets that deviate from the connection file."""
        sockets = await asyncio.to_thread(list_sockets, self._handle.shim)
        return await asyncio.to_thread(read_exposure, self.connection, sockets)

    def has_rewritten_file(self) -> bool:
        """Return whether the kernel has written its connection file again."""
        return find_rewriting(Path(self._plan.files.connection_file), self.connection)[0]

    async def answers_heartbeat(self) -> bool:
        """Return whether the kernel answers a heartbeat that is sent from now on."""
        self.channels.heartbeat()  # its result is about an earlier heartbeat
        deadline = self._world.clock() + self.limits.heartbeat_s
        while self._world.clock() < deadline and not self._exited.done():
            await asyncio.sleep(POLL_INTERVAL_S)
            if self.channels.heartbeat():
                return True
        return False

    # --- a running cell

    @contextlib.asynccontextmanager
    async def running_cell(self, code: str) -> AsyncIterator["RunningCell"]:
        """Run a cell in the background."""
        status = StatusWatch(self._world, self.connection)
        try:
            # A status message that is published before the subscription has arrived is lost.
            heard = asyncio.ensure_future(status.until_heard())
            deadline = self._world.clock() + STATUS_TIMEOUT_S
            while not (heard.done() or self._exited.done() or self._world.clock() > deadline):
                await self.ask(self.channels.kernel_info(), STATUS_TIMEOUT_S)
                await self._wait({heard}, POLL_INTERVAL_S)
            heard.cancel()
            await self.wait_for_exit(self.limits.before_cell_s)
            cell = RunningCell(self, status, code)
            try:
                await cell.begin()
                yield cell
            finally:
                cell.close()
        finally:
            status.close()

    async def send_sigint(self) -> bool:
        """Send SIGINT to the kernel's process group; return False, because there is no reply."""
        await self._world.launcher.signal(self._handle, signal.SIGINT)
        return False

    async def send_interrupt_request(self) -> bool:
        """Send ``interrupt_request``, and return True when its reply has arrived."""
        await self.channels.control("interrupt_request", {})
        return True

    def now(self) -> float:
        """Return the present time, in monotonic seconds."""
        return self._world.clock()

    async def wait_tasks(self, tasks: set[asyncio.Future[Any]], limit_s: float) -> None:
        """Wait until a task is done or the kernel has exited."""
        await self._wait(tasks, limit_s)


class RunningCell:
    """A cell of a probe's kernel.

    Parameters
    ----------
    kernel : ProbeKernel
        The kernel.
    status : StatusWatch
        The status messages of the kernel.
    code : str
        The code of the cell.
    """

    def __init__(self, kernel: ProbeKernel, status: StatusWatch, code: str) -> None:
        self._kernel = kernel
        request = uuid.uuid4().hex
        self._begun = asyncio.ensure_future(status.until_busy(request))
        self._idle = asyncio.ensure_future(status.until_idle(request))
        self._reply = asyncio.ensure_future(kernel.channels.run_cell(code, request))

    async def begin(self) -> None:
        """Wait until the code runs, as far as this can be observed."""
        await self._kernel.wait_tasks({self._begun, self._reply}, CELL_BEGIN_TIMEOUT_S)
        await self._kernel.wait_tasks({self._reply}, SETTLE_S)

    @property
    def has_ended(self) -> bool:
        """Whether the cell is known to have ended."""
        return self._reply.done() or self._idle.done() or bool(self._kernel.exit_text)

    @property
    def exit_text(self) -> str:
        """The description of the kernel's exit; ``""`` if it is alive."""
        return self._kernel.exit_text

    @property
    def status(self) -> str:
        """The status in the reply; ``""`` without a reply."""
        is_replied = self._reply.done() and self._reply.exception() is None
        return self._reply.result() if is_replied else ""

    async def interrupt(self, send: Callable[[], Coroutine[Any, Any, bool]]) -> Interruption:
        """Send an interrupt, and observe the cell and the kernel."""
        kernel = self._kernel
        limits, sent_at = kernel.limits, kernel.now()
        sending = asyncio.ensure_future(send())
        try:
            await kernel.wait_tasks({self._reply, self._idle}, limits.interrupt_s)
            waited_s = kernel.now() - sent_at
            ended = self.has_ended
            if ended:
                await kernel.wait_tasks({self._reply}, limits.reply_lag_s)
                await kernel.wait_for_exit(limits.after_cell_s)
            replied = sending.done() and sending.exception() is None and sending.result()
            return Interruption(waited_s, ended, self.status, kernel.exit_text, replied)
        finally:
            sending.cancel()

    def close(self) -> None:
        """Stop the observation; the cell is not changed."""
        for task in (self._begun, self._idle, self._reply):
            task.cancel()


def _exit_failure(end: ExitStatus) -> TrialFailure:
    was_killed = end.oom or end.signal == signal.SIGKILL or end.lost
    return TrialFailure.KILLED if was_killed else TrialFailure.EXIT


@contextlib.asynccontextmanager
async def launch_probe_kernel(
    world: World, maker: Maker, profile: Profile, files: LaunchFiles, limits: ProbeLimits
) -> AsyncIterator[ProbeKernel]:
    """Launch a kernel for a probe; at the end, terminate it and remove its files.

    Parameters
    ----------
    world : World
        The objects that all kernels share.
    maker : Maker
        Launches and terminates the kernel.
    profile : Profile
        The profile, whose settings name exactly one wire.
    files : LaunchFiles
        The content of the files that the profile names.
    limits : ProbeLimits
        The limits of waits.

    Raises
    ------
    KconndError, OSError, TimeoutError
        If the launch fails.
    """
    check_descriptors(count_descriptors())
    name = warm_name(profile.name, secrets.token_hex(4))
    command = Launch(1, new_key=True, new_ports=True)
    with release_on_failure(world, name):
        wire = await prepare_wire(world, name, profile, files, command, attempts=Attempts.KNOWN)
        plan = make_plan(world, world.warm_files(name), 1, profile, files, wire.connection)
    async with asyncio.timeout(world.launch_limit):
        handle = await maker.launch(plan, wire)
    try:
        kernel = ProbeKernel(world, plan, wire, handle, limits)
        try:
            yield kernel
        finally:
            kernel.close()
    finally:
        ending = maker.end_kernel(plan, wire, handle)
        # The maker goes on with a process that does not exit.
        await asyncio.wait({ending}, timeout=END_TIMEOUT_S)
