"""Supervises a kernel's present process: answers, signals and exit.

This module makes no decisions. It reports events and observations to the actor in the order in
which they occur, each with the generation of the process. `Process.detach` cancels all tasks of the
supervision.
"""

import asyncio
import logging
import math
import signal
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from kconnd.core.kernel.events import Event, Exited, Step, TakeStep
from kconnd.core.kernel.habits import Habits
from kconnd.core.kernel.interrupts import ended_by_interrupt
from kconnd.core.kernel.learned import Learned, facts_of
from kconnd.core.kernel.probing import describe_exposures, describe_rewriting
from kconnd.core.kernel.reachability import BOUND_INSTEAD
from kconnd.core.kernel.record import Facts, LastExit
from kconnd.core.kernel.view import describe_exit, describe_oom, describe_unit_stop
from kconnd.core.launch.capabilities import (
    INTERRUPT_REPLY,
    LISTENS_AS_TOLD,
    MESSAGE_ENDS_CELL,
    REWRITES_FILE,
    SIGINT_ENDS_CELL,
    SURVIVES_SIGINT,
    Observations,
    Software,
)
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.containers import RUNTIME_FOLDER, Place, describe_unreached
from kconnd.core.profile.quantities import format_size
from kconnd.daemon.context import World
from kconnd.daemon.kernel.background import BackgroundTasks, Work
from kconnd.daemon.kernel.files import RuntimeFiles
from kconnd.daemon.kernel.monitor import Watch
from kconnd.daemon.kernel.observing import Attempt, Observer, unknown_software
from kconnd.daemon.kernel.prepared import WarmKernel
from kconnd.daemon.kernel.shutdown import Ending, shut_down, watch_shim
from kconnd.errors import NotRunningError
from kconnd.launchers.base import ExitStatus, Handle
from kconnd.system.channels.attach_check import AttachCheck
from kconnd.system.channels.kernel_listeners import list_sockets, read_exposure

BIND_TIMEOUT_S, BIND_POLL_S = 2.0, 0.05  # a kernel may answer before it binds all sockets
INTERRUPT_REPLY_TIMEOUT_S = 10.0
EXPLAIN_BEFORE_S = 2.0  # the longest time from the check to the startup timeout
SOCKETS_GONE = "its sockets were deleted: no new client can attach until it is restarted"

log = logging.getLogger("kconnd")

Report = Callable[[Event | Learned], None]


@dataclass(frozen=True)
class Target:
    """A process to supervise.

    Parameters
    ----------
    handle : Handle
        The handle that identifies the process.
    connection : ConnectionInfo, optional
        The connection info of the process; None if this info is lost.
    facts : Facts
        The known facts about the process.
    beats : bool
        Whether the profile enables heartbeats.
    fresh : bool
        Whether the process is new: False for an adopted process that has answered an earlier
        daemon.
    launched_at : float, optional
        The time at which this daemon launched the process, in monotonic seconds; None for an
        adopted process.
    startup_timeout : float
        The time limit of the first answer, in seconds.
    warm : WarmKernel, optional
        The warm kernel that the process was until now; None for other processes. A warm kernel
        has already answered.
    attempt : Attempt
        The wire that the start tries, and the kernel's software.
    place : Place
        The folder of the kernel's connection file and sockets.
    has_setup : bool
        Whether a login shell has run lines of ``setup`` before the kernel.
    """

    handle: Handle
    connection: ConnectionInfo | None
    facts: Facts
    beats: bool
    fresh: bool
    launched_at: float | None = None
    startup_timeout: float = math.inf
    warm: WarmKernel | None = None
    attempt: Attempt = field(default_factory=Attempt)
    place: Place = RUNTIME_FOLDER
    has_setup: bool = False


class Process:
    """The present process of a kernel.

    Parameters
    ----------
    name : str
        The kernel's name.
    world : World
        The objects that all kernels share.
    report : callable
        A function that receives events and observations for the record.
    connection : ConnectionInfo, optional
        The connection of the latest process, according to the record.
    habits : Habits
        The habits of the kernel's software, according to the record.
    read_software : callable
        A function that reads what is known of the kernel's software.
    """

    def __init__(
        self,
        name: str,
        world: World,
        report: Report,
        *,
        connection: ConnectionInfo | None = None,
        habits: Habits | None = None,
        read_software: Callable[[], Awaitable[Software]] = unknown_software,
    ) -> None:
        self.name = name
        self.runtime = RuntimeFiles(name, world)
        self.files = self.runtime.paths
        self.handle: Handle | None = None
        self.connection = connection
        self.reach: AttachCheck | None = None
        self.fault = ""  # why no new client can attach; empty if clients can
        self.settled = asyncio.Event()  # set when a start has succeeded or failed
        self._tasks = BackgroundTasks(name)
        self.spawn = self._tasks.spawn
        self.watch = Watch(
            report=report,
            answered=self._answered,
            learned=self._learned,
            observed=self._observed,
            clock=world.clock,
            turn=world.pace.turn,
            spawn=self.spawn,
        )
        self._world, self._report = world, report
        self._observer = Observer(name, world, read_software)
        self._habits = habits or Habits()
        self._facts = Facts()
        self._generation = 0
        self._launched_at: float | None = None
        self._has_setup = False
        self._answered_at = -math.inf
        self._interrupted_at: float | None = None
        self._shutdown: asyncio.Task[None] | None = None
        self._shim_watch: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the kernel has answered."""
        return self.watch.execution_state is not None

    # --- attaching

    def attach(self, target: Target) -> None:
        """Begin to supervise a process."""
        handle, self.connection = target.handle, target.connection
        self.handle, self._facts = handle, target.facts
        self._generation = handle.generation
        self._launched_at, self._interrupted_at = target.launched_at, None
        self._has_setup = target.has_setup
        self.fault = ""
        self.watch.begin(fresh=target.fresh, habits=self._habits)
        self.spawn(self._watch_exit(handle))
        if target.connection is None:
            self.fault = "its connection file is lost with its record"
            self._world.announce(self.name, "unreachable", f"{self.fault}; restart it")
            return
        self.reach = AttachCheck(target.connection, self.runtime.connection_file, handle.shim)
        began_at = self._world.clock() if target.launched_at is None else target.launched_at
        self._observer.begin(target.attempt, target.connection, began_at)
        if target.fresh and target.warm is None:
            self.spawn(self._explain_silence(self.reach, target))
            self.spawn(self._watch_wire(handle, is_adopted=target.attempt.is_adopted))
        for work in self._listen(target, target.connection):
            self.spawn(work)

    async def _watch_wire(self, handle: Handle, *, is_adopted: bool) -> None:
        """Watch whether a starting kernel uses its sockets and keys."""
        arguments = (handle.shim, handle.generation, lambda: self.is_ready, self._report)
        if not is_adopted:
            await self._observer.watch(*arguments)
        elif refusal := await self._observer.watch_adopted(*arguments):
            self._warn(f"it does not follow its connection file: {refusal}")

    def _listen(self, target: Target, connection: ConnectionInfo) -> list[Work]:
        warm = target.warm
        channels = warm.channels if warm else self._world.connect(connection)
        answer = warm.answer if warm else None
        generation, fresh = target.handle.generation, target.fresh
        return list(
            self.watch.listen(channels, generation, fresh=fresh, answer=answer, beats=target.beats)
        )

    def detach(self) -> None:
        """Stop the supervision; the process keeps running."""
        self.settled.set()
        self.handle = self.reach = None
        self.fault = ""
        self.watch.end()
        self._tasks.cancel()

    async def _watch_exit(self, handle: Handle) -> None:
        end = await self._world.launcher.wait(handle)
        since_interrupt_s = self._since_interrupt_s()
        output = self.runtime.last_output()
        interrupted = ended_by_interrupt(
            end.code, end.signal, oom=end.oom, interrupted_s=since_interrupt_s
        )
        reason = describe_end(end, handle, interrupted=interrupted)
        if self._has_setup and not self.is_ready and (lines := self.runtime.setup_failures()):
            reason = f"{reason} ({'; '.join(lines)})"
        trial_failed = not self.is_ready and self._observer.note_exit(
            reason, killed=end.oom or end.signal == signal.SIGKILL, success=end.code == 0
        )
        if interrupted and self._facts.interrupt_mode != "message":
            self._observer.note_death_by_interrupt(describe_exit(end.code, end.signal))
        if trial_failed:
            self.runtime.remove_sockets(self.connection)
        at = end.at or self._world.wall_clock()
        last_exit = LastExit(end.code, end.signal, reason, at, output)
        self._report(Learned(handle.generation, last_exit=last_exit))
        self.detach()
        tcp = self.connection is not None and self.connection.transport == "tcp"
        self._report(
            Exited(
                handle.generation,
                reason,
                success=end.code == 0 and not interrupted,
                lost=end.lost,
                ordered=end.unit_stopped,
                ports_taken=tcp and "ddress already in use" in output,
                trial_failed=trial_failed,
                roll=self._world.roll(),
            )
        )

    def _since_interrupt_s(self) -> float | None:
        """Return the seconds since the last interrupt by a user, or None.

        None means that there was no interrupt, or that the kernel has survived it. A kernel has
        survived an interrupt if it later begins to work on a request.
        """
        at = self._interrupted_at
        return None if at is None or self.watch.busy_at > at else self._world.clock() - at

    # --- observations

    def _answered(self, reply: Mapping[str, Any], first: bool) -> None:  # noqa: FBT001  # see `Watch`
        before, facts = self._facts, facts_of(reply)
        if first:
            self._facts = replace(self._facts, ready_after=self._seconds_to_start())
            self._answered_at = self._world.clock()
            self.settled.set()
            if self._launched_at is not None or self._observer.is_trial:
                self._observer.note_answer(self._facts.ready_after or 0.0)
            if self.handle is not None and self.connection is not None:
                self.spawn(self._compare_with_file(self.handle, self.connection))
        elif self._facts.language:
            facts.pop("language", None)  # the kernel spec's name of the language is kept
        self._facts = replace(self._facts, **facts)
        if self._facts != before:
            self._report(Learned(self._generation, facts=self._facts))
        if self._facts.implementation:
            software = f"{self._facts.implementation} {self._facts.implementation_version}"
            self.watch.learn(self.watch.habits.for_software(software))

    def _seconds_to_start(self) -> float:
        if self._launched_at is not None:
            return round(self._world.clock() - self._launched_at, 4)
        # An earlier daemon launched the process and recorded the wall-clock time of the launch.
        now = self._world.wall_clock()
        return max(0.0, round(now - (self._facts.started_at or now), 4))

    def _learned(self, habits: Habits) -> None:
        self._habits = habits
        self._report(Learned(self._generation, habits=habits))

    def _observed(self, observations: Observations) -> None:
        """Record facts that the kernel's use shows about its software."""
        news, started_at = self._observer.take_news(observations), self._facts.started_at
        if news and self._launched_at is not None:
            self._observer.note(news)
        elif news and started_at is not None:
            name = self._facts.kernel_name
            self.spawn(self._observer.note_adopted(name, started_at, news))

    def _warn(self, warning: str) -> None:
        if warning not in self._facts.warnings:
            self._facts = replace(self._facts, warnings=(*self._facts.warnings, warning))
            self._report(Learned(self._generation, facts=self._facts))
            self._world.announce(self.name, "warning", warning)

    # --- whether clients can attach

    def mend(self, existing: Collection[str]) -> None:
        """Restore the connection file of a live kernel, and warn of removed sockets.

        Parameters
        ----------
        existing : collection of str
            The paths of all files in the runtime folder and in the folder of sockets.
        """
        if self.handle is None or self.connection is None:
            return
        if str(self.runtime.connection_file) not in existing:
            self.runtime.claim(self.connection)
            message = "its connection file was removed, and has been written again"
            self._world.announce(self.name, "mended", message)
        if self.watch.execution_state and any(
            path not in existing and not Path(path).exists()
            for path in self.connection.socket_paths()
        ):
            self._warn(SOCKETS_GONE)

    async def find_fault(self) -> str:
        """Return why no new client can attach to a ready kernel; ``""`` if clients can attach.

        A removed connection file is written again. A kernel that has just answered gets some time
        to bind its remaining sockets.
        """
        while (reach := self.reach) is not None:
            if self.connection is not None and not reach.has_file():
                self._warn_of_rewriting(self.connection)
                self.runtime.claim(self.connection)
            find = reach.find_fault
            self.fault = find() if reach.is_fast else await asyncio.to_thread(find)
            if not self.fault or self._world.clock() - self._answered_at > BIND_TIMEOUT_S:
                break
            # This loop polls, because no event reports that a kernel binds its sockets.
            await asyncio.sleep(BIND_POLL_S)
        return self.fault

    def note_fault(self, handle: Handle, fault: str) -> None:
        """Store why no new client can attach, if ``handle`` is still the present process."""
        if self.handle is handle and self.is_ready and self.connection is not None:
            self.fault = fault

    async def _explain_silence(self, reach: AttachCheck, target: Target) -> None:
        """Warn, shortly before a start times out, why the kernel has not been reached."""
        # This is a fixed delay, because no event marks this time.
        lead_s = min(EXPLAIN_BEFORE_S, target.startup_timeout / 4)
        await asyncio.sleep(target.startup_timeout - lead_s)
        # The files are compared first, because the kernel is ended when its start times out.
        shim, place = target.handle.shim, target.place
        hidden_file = await asyncio.to_thread(self.runtime.find_hidden_file, shim, place)
        fault = await asyncio.to_thread(reach.find_fault)
        if self.is_ready or not fault or self.connection is None:
            return
        _, rewriting = self.runtime.find_rewriting(self.connection)
        if rewriting:
            self._warn(rewriting)
        elif BOUND_INSTEAD in fault and not hidden_file:
            self._warn(f"it does not follow its connection file: {fault}")
        else:
            self._warn(describe_unreached(place, fault, hidden_file=hidden_file))

    async def _compare_with_file(self, handle: Handle, connection: ConnectionInfo) -> None:
        """Warn of sockets that the connection file does not account for."""
        rewritten = self._warn_of_rewriting(connection)
        self._observed({REWRITES_FILE: (rewritten, describe_rewriting(rewritten=rewritten))})
        if self._has_setup:
            for failure in await asyncio.to_thread(self.runtime.setup_failures):
                self._warn(failure)
        await asyncio.sleep(BIND_POLL_S)  # a kernel may answer before it has bound all sockets
        sockets = await asyncio.to_thread(list_sockets, handle.shim)
        await self._world.look_pace.turn()
        warnings = await asyncio.to_thread(read_exposure, connection, sockets)
        for warning in warnings:
            self._warn(warning)
        self._observed({LISTENS_AS_TOLD: (not warnings, describe_exposures(warnings))})

    def _warn_of_rewriting(self, connection: ConnectionInfo) -> bool:
        """Warn if the launch has changed the connection file; return whether it wrote the file."""
        rewritten, warning = self.runtime.find_rewriting(connection)
        if warning:
            self._warn(warning)
        return rewritten

    # --- signals and exit

    async def find_interrupt_danger(self) -> str:
        """Return why an interrupt would end the kernel; ``""`` if the kernel would survive."""
        if self._facts.interrupt_mode == "message":
            return ""
        fact = await self._observer.is_false(SURVIVES_SIGINT)
        return fact.evidence if fact is not None else ""

    async def interrupt(self) -> None:
        """Interrupt the running cell in the way that the kernel spec's ``interrupt_mode`` names."""
        self._interrupted_at = self._world.clock()
        if self._facts.interrupt_mode == "message":
            self.spawn(self._request_interrupt())
        else:
            await self._interrupt()

    async def _request_interrupt(self) -> None:
        """Send ``interrupt_request``, and record whether its reply arrives."""
        replied, evidence = True, "interrupt_reply arrived"
        try:
            async with asyncio.timeout(INTERRUPT_REPLY_TIMEOUT_S):
                if not await self.watch.control("interrupt_request", {}):
                    return  # there is no connection
        except TimeoutError:
            replied, evidence = False, f"no interrupt_reply in {INTERRUPT_REPLY_TIMEOUT_S:g} s"
        self._observed({INTERRUPT_REPLY: (replied, evidence)})

    def note_interrupted_cell(self) -> None:
        """Record that a cell has ended after an interrupt, and that the kernel lives."""
        way = "interrupt_request" if self._facts.interrupt_mode == "message" else "SIGINT"
        fact = MESSAGE_ENDS_CELL if way == "interrupt_request" else SIGINT_ENDS_CELL
        self._observed({fact: (True, f"a cell ended after {way}")})

    async def _interrupt(self) -> None:
        if self._facts.interrupt_mode == "message":
            await self.watch.request("interrupt_request", {})
        else:
            await self._signal(signal.SIGINT)

    async def signal(self, number: int) -> None:
        """Send a signal to the kernel's process group.

        Raises
        ------
        NotRunningError
            If the kernel has no process.
        """
        if number == signal.SIGINT:
            self._interrupted_at = self._world.clock()
        await self._signal(number)

    async def _signal(self, number: int) -> None:
        if self.handle is None:
            raise NotRunningError(f"signalling {self.name}: it has no process now")
        await self._world.launcher.signal(self.handle, number)

    def take(self, command: TakeStep) -> None:
        """Take one step of a stop; after a deadline, the actor orders the next step."""
        self._interrupted_at = None  # from now on, an exit is attributed to the stop
        if self._shutdown is not None:
            self._shutdown.cancel()
            self._shutdown = None
        if self._shim_watch is not None:
            self._shim_watch.cancel()
        if self.handle is not None:
            self._shim_watch = self.spawn(watch_shim(self.handle, self._report))
        if command.step is Step.SHUTDOWN and self.handle is not None:
            self._shutdown = self.spawn(self._shut_down(self.handle, restart=command.restart))
        else:
            self.spawn(self._take(command.step))

    async def _take(self, step: Step) -> None:
        if step is Step.INTERRUPT:
            await self._interrupt()
        elif self.handle is not None:
            await self._world.launcher.stop(self.handle, step)

    async def _shut_down(self, handle: Handle, *, restart: bool) -> None:
        # The kernel publishes `restart` on iopub, so all clients receive it.
        request = partial(self.watch.control, "shutdown_request", {"restart": restart})
        ending = Ending(handle.kernel, handle.generation, self._facts.implementation)
        await shut_down(request, ending, self._report, self._world.clock, self._observer)

    def clean_up(self, *, recorded: bool = True) -> None:
        """Remove the kernel's files; see `RuntimeFiles.clean_up`."""
        self.runtime.clean_up(self.connection, recorded=recorded)


def describe_end(end: ExitStatus, handle: Handle, *, interrupted: bool) -> str:
    """Describe how a process exited, for users."""
    if end.oom:
        limit = handle.limits.get("memory")
        size = format_size(int(limit)) if limit else ""
        reason = describe_oom(own=end.oom_own, above=end.oom_above, limit=size)
    else:
        reason = describe_exit(end.code, end.signal)
    if end.unit_stopped:
        return describe_unit_stop(PurePosixPath(handle.cgroup).name, reason)
    return f"ended by the interrupt ({reason})" if interrupted else reason
