"""Launches a kernel: from the decision to a supervised process.

A launch reads the files that the profile names, and uses a warm kernel if possible. Otherwise, the
launch waits for one of the daemon's slots, chooses ports and keys, writes the connection file and
calls the launcher. The launch holds its slot until the kernel has answered or exited, so the number
of slots limits the concurrent starts. The actor saves the decision to launch before the launch
begins. If the daemon dies during a launch, the next daemon finds the process by the shim's files.

Each launch ends with one of three reports: `Launched`, `LaunchFailed`, or `ProcessMet` if a process
of the kernel already exists.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from kconnd.core.kernel.events import Event, Launch, Launched, LaunchFailed
from kconnd.core.kernel.learned import Learned
from kconnd.core.kernel.record import Facts
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.containers import RUNTIME_FOLDER, Place
from kconnd.core.launch.notebook import NO_NOTEBOOK, Notebook
from kconnd.core.profile.model import Profile
from kconnd.daemon.context import World
from kconnd.daemon.kernel.background import BackgroundTasks
from kconnd.daemon.kernel.observing import Attempt
from kconnd.daemon.kernel.place import choose_place
from kconnd.daemon.kernel.prepared import WarmKernel, WarmKernels
from kconnd.daemon.kernel.process import Process, Target
from kconnd.daemon.kernel.wiring import Previous, Wire, prepare_wire
from kconnd.errors import (
    KconndError,
    RefusedError,
    StartFailedError,
    StateFileError,
    StillRunningError,
)
from kconnd.launchers.base import Handle
from kconnd.system.launch_files import (
    LaunchFiles,
    check_descriptors,
    make_plan,
    read_launch_files,
)
from kconnd.system.process.resource_usage import count_descriptors
from kconnd.system.program_choice import ProgramHints

log = logging.getLogger("kconnd")


@dataclass(frozen=True)
class ProcessMet:
    """Reports that a launch has started no process, because a process of the kernel is alive.

    Parameters
    ----------
    failure : LaunchFailed
        The event to report if the live process cannot be adopted.
    """

    failure: LaunchFailed


@dataclass(frozen=True)
class Order:
    """The order to launch a process, which follows from a decision of the actor.

    Parameters
    ----------
    command : Launch
        The actor's command.
    profile : Profile
        The profile to launch.
    previous : Previous, optional
        The connection to keep; None for a new key and new ports.
    notebook : Notebook
        The notebook of the front end for which the process is launched.
    asked_ns : int
        The time of the order, in nanoseconds of the monotonic clock.
    hints : ProgramHints
        What is known of the owner's client and of the previous process's program.
    """

    command: Launch
    profile: Profile
    previous: Previous | None
    notebook: Notebook
    asked_ns: int
    hints: ProgramHints

    @property
    def generation(self) -> int:
        """The generation of the process to launch."""
        return self.command.generation


@dataclass(frozen=True)
class Start:
    """A process that is about to start: its connection, its facts and the wire that it tries."""

    connection: ConnectionInfo
    facts: Facts
    attempt: Attempt
    at: float  # monotonic seconds
    place: Place = RUNTIME_FOLDER


class Launching:
    """Launches a kernel; at most one launch runs at a time.

    Parameters
    ----------
    process : Process
        The supervision of the launched process.
    world : World
        The objects that all kernels share.
    report : callable
        A function that receives events, observations for the record, and `ProcessMet`.
    pool : WarmKernels, optional
        The warm kernels that a launch can use instead of starting a process.
    """

    def __init__(
        self,
        process: Process,
        world: World,
        report: Callable[[Event | Learned | ProcessMet], None],
        pool: WarmKernels | None = None,
    ) -> None:
        self.trouble: KconndError | None = None  # why the latest launch failed
        self._process, self._world, self._report, self._pool = process, world, report, pool
        self._tasks = BackgroundTasks(process.name)
        self._task: asyncio.Task[None] | None = None
        # True while a launch waits for a disk or a slot, before it starts a process.
        self._is_waiting = False

    def begin(
        self,
        command: Launch,
        profile: Profile,
        previous: Previous | None = None,
        hints: ProgramHints | None = None,
        notebook: Notebook = NO_NOTEBOOK,
    ) -> None:
        """Begin a launch; the end of the launch is reported later."""
        hints = hints or ProgramHints()
        kept = self._world.sessions.keep(self._process.name, hints.session)
        if kept and self._pool is not None:
            self._pool.look_again()  # the warm kernels inherit from another session
        order = Order(command, profile, previous, notebook, time.monotonic_ns(), hints)
        self._task = self._tasks.spawn(self._launch(order))

    def withdraw(self, generation: int) -> None:
        """Cancel a launch that is still waiting for a disk or for a slot."""
        if self._is_waiting and self._task:
            self._task.cancel()
            self._report(LaunchFailed(generation, "it was stopped before it had begun"))

    def refuse(self, generation: int, error: KconndError | OSError) -> None:
        """Report that a launch failed, even if the launch has not begun."""
        self._report(self._failure(generation, error))

    async def _launch(self, order: Order) -> None:
        try:
            self._process.runtime.check_unlocked()
            self._is_waiting = True
            files = await read_launch_files(self._world, order.profile, order.hints, order.notebook)
            self._is_waiting = False
            handed_over = await self._use_warm(order, files)
        except Exception as error:  # noqa: BLE001  # after any fault, the start must end
            self._fail(order, error)
            return
        if handed_over is not None:
            self._supervise(order, *handed_over)
            return
        self._is_waiting = True
        async with self._world.slots:
            self._is_waiting = False
            await self._start_in_slot(order, files)

    async def _start_in_slot(self, order: Order, files: LaunchFiles) -> None:
        """Start a process, and hold the slot until the process has answered or exited."""
        self._process.settled.clear()
        try:
            self._world.launcher.expect(order.asked_ns)
            async with asyncio.timeout(self._world.launch_limit):
                start, handle = await self._start(order, files)
        except Exception as error:  # noqa: BLE001  # after any fault, the start must end
            self._fail(order, error)
            return
        self._supervise(order, start, handle)
        await self._process.settled.wait()

    def _fail(self, order: Order, error: Exception) -> None:
        if not isinstance(error, KconndError | OSError):
            log.error("%s: launching it", self._process.name, exc_info=error)
        failure = self._failure(order.generation, error)
        met = isinstance(error, StillRunningError)
        self._report(ProcessMet(failure) if met else failure)

    def _failure(self, generation: int, error: Exception) -> LaunchFailed:
        self.trouble = trouble = _as_trouble(error, self._world.launch_limit)
        disk = isinstance(error, OSError | StateFileError)
        passing = disk and not isinstance(error, TimeoutError)
        return LaunchFailed(generation, trouble.message, self._world.roll(), passing=passing)

    def _supervise(
        self, order: Order, start: Start, handle: Handle, warm: WarmKernel | None = None
    ) -> None:
        self.trouble = None
        self._report(Learned(order.generation, handle=handle.to_json()))
        self._report(Launched(order.generation))
        self._process.attach(
            Target(
                handle,
                start.connection,
                start.facts,
                beats=math.isfinite(order.profile.heartbeat.interval),
                fresh=True,
                launched_at=start.at,
                startup_timeout=order.profile.startup_timeout,
                warm=warm,
                attempt=start.attempt if warm is None else Attempt(),
                place=start.place,
                has_setup=bool(order.profile.setup),
            )
        )

    # --- warm kernel or new process

    async def _use_warm(
        self, order: Order, files: LaunchFiles
    ) -> tuple[Start, Handle, WarmKernel] | None:
        """Use a warm kernel instead of a new process; None if no suitable kernel is ready."""
        pool = self._pool
        if order.previous is not None or pool is None or not pool.has(order.profile):
            return None
        check_descriptors(count_descriptors())
        reserved = await pool.take(self._process.name, order.generation, order.profile, files)
        if reserved is None:
            return None
        warm, plan = reserved
        try:
            start = self._prepare(order, files, warm.wire)
            self._process.runtime.write_connection(start.connection)
            handle = pool.hand_over(warm, plan)
        except BaseException:
            pool.discard(warm, "its hand-over failed")
            raise
        return start, handle, warm

    async def _start(self, order: Order, files: LaunchFiles) -> tuple[Start, Handle]:
        world, process, generation = self._world, self._process, order.generation
        check_descriptors(count_descriptors())
        files = replace(files, place=await choose_place(world, order.profile, files))
        wire = await prepare_wire(
            world, process.name, order.profile, files, order.command, order.previous
        )
        for note in wire.notes:
            world.announce(process.name, "ports-changed", note)
        start = self._prepare(order, files, wire)
        process.runtime.remove_sockets(start.connection)
        process.runtime.write_connection(start.connection)
        process.runtime.write_own_copy(start.connection, files.place)
        paths = process.runtime.paths
        plan = make_plan(world, paths, generation, order.profile, files, start.connection)
        plan = replace(plan, asked=order.asked_ns)
        try:
            return start, await world.launcher.launch(plan)
        except StartFailedError as error:
            if self._pool is None or not isinstance(error.__cause__, RefusedError):
                raise
            return start, await self._pool.launch_with_room(plan, error)

    def _prepare(self, order: Order, files: LaunchFiles, wire: Wire) -> Start:
        """Collect connection and facts of the next process, and report them to the actor."""
        spec = files.spec
        facts = Facts(
            started_at=self._world.wall_clock(),
            kernel_name=spec.name,
            language=spec.language,
            interrupt_mode=spec.interrupt_mode,
            warnings=wire.warnings,
        )
        self._process.connection = wire.connection
        news = Learned(
            order.generation,
            connection=wire.connection,
            facts=facts,
            program=files.program,
            umask=files.inherited.umask,
        )
        self._report(news)
        fallback = order.command.fallback
        attempt = Attempt(files.software, wire.trial, wire.trial_limit_s, fallback)
        return Start(wire.connection, facts, attempt, self._world.clock(), files.place)


def _as_trouble(error: Exception, limit_s: float) -> KconndError:
    if isinstance(error, KconndError):
        return error
    if isinstance(error, TimeoutError):
        return StartFailedError(
            f"launching it: no process within {limit_s:g} s",
            hint="a folder or program of the kernel may be on a disk that does not answer; "
            "start it again when the disk answers",
        )
    return StartFailedError(
        f"preparing it: {error}", hint="correct the reported problem, then start it again"
    )
