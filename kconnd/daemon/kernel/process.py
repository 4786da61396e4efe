"""The process side of one kernel: launch it, watch it, talk to it, end it, clean up after it.

Rules. Nothing is decided here: what happens is told to the actor as an event with the
generation it belongs to, and what is learned on the way is given to it to keep. Every task
started here ends with `detach` or with the kernel.
"""

import asyncio
import contextlib
import json
import logging
import math
import signal
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from kconnd.core.kernel.events import (
    Event,
    Exited,
    Launch,
    Launched,
    LaunchFailed,
    Step,
)
from kconnd.core.kernel.habits import Habits
from kconnd.core.kernel.interrupts import ended_by_interrupt
from kconnd.core.kernel.reachability import INSTEAD
from kconnd.core.kernel.record import Facts, LastExit
from kconnd.core.kernel.view import describe_exit, describe_oom, describe_unit_stop
from kconnd.core.launch.connection import ConnectionInfo, parse_connection
from kconnd.core.launch.kernelspec_file import KernelSpec
from kconnd.core.profile.model import Profile
from kconnd.daemon.context import World
from kconnd.daemon.kernel.claims import is_held
from kconnd.daemon.kernel.monitor import Watch
from kconnd.daemon.kernel.prepare import (
    LaunchFiles,
    Wire,
    check_descriptors,
    make_plan,
    prepare_wire,
    read_launch_files,
)
from kconnd.daemon.kernel.prepared import WarmKernel, WarmKernels
from kconnd.daemon.kernel.shutdown import Ending, shut_down
from kconnd.errors import (
    KconndError,
    NotRunningError,
    RefusedError,
    StartFailedError,
    StateFileError,
    StillThereError,
)
from kconnd.launchers.base import Exit, Handle
from kconnd.system.channels.attach_check import Reach
from kconnd.system.files.private import is_private, read_tail, write_private
from kconnd.system.files.regular import MAX_OWN_BYTES, read_regular
from kconnd.system.process.connected_clients import connected_clients
from kconnd.system.process.processes import descriptors

LONGEST = 100  # characters of what a kernel says of itself
BIND_TIMEOUT_S, BIND_POLL_S = 2.0, 0.05  # for a kernel that answers before it has bound all
EXPLAIN_BEFORE_S = 0.5  # before a start is given up
TAIL = 4096  # bytes of last output that are kept with an exit
SOCKETS_GONE = "its sockets were deleted: no new client can attach until it is restarted"
LAUNCH_MARK = "[kconnd: launch "  # the shim's line at the head of each process's output

log = logging.getLogger("kconnd")


class Life:
    """What the daemon has to do with one kernel's processes.

    Parameters
    ----------
    name : str
        The kernel's name.
    world : World
        What all kernels share.
    tell : callable
        Takes events.
    learn : callable
        Takes fields of the record to be kept, as keywords.
    recover : callable
        Takes up a process that is there already, and tells whether it found one.
    beats : callable
        Tells whether the kernel is ever asked for a heartbeat.
    pool : WarmKernels, optional
        Kernels that a launch can use instead of a start.
    """

    def __init__(
        self,
        name: str,
        world: World,
        *,
        tell: Callable[[Event], None],
        learn: Callable[..., None],
        recover: Callable[[], Coroutine[Any, Any, bool]],
        beats: Callable[[], bool],
        pool: WarmKernels | None,
    ) -> None:
        self.name = name
        self.files = world.files(name)
        self.log_file = Path(self.files.log)
        self.watch = Watch(
            tell=tell,
            answered=self._answered,
            learned=self._learned,
            clock=world.clock,
            turn=world.pace.turn,
            spawn=self.spawn,
        )
        self.habits = Habits()  # what is on record of the kernel's
        self.trouble: KconndError | None = None  # why the last launch came to nothing
        self.handle: Handle | None = None
        self.connection: ConnectionInfo | None = None
        self.kept_alive = (
            ""  # what keeps it from being stopped as idle: kconnd.daemon.tasks.idle_stop
        )
        self._world = world
        self._tell, self._learn, self._recover = tell, learn, recover
        self._beats, self._pool = beats, pool
        self._facts = Facts()
        self._launched_at: float | None = None  # in monotonic seconds, if we launched it
        self._tasks: set[asyncio.Task[None]] = set()
        self._warm: WarmKernel | None = None  # what was just handed over, until it is attached to
        self._launching: asyncio.Task[None] | None = None
        self._queued = False
        self.reach: Reach | None = None
        self.fault = ""  # why no new client can attach, as far as was looked
        self._answered_at = -math.inf
        self._startup_timeout = math.inf
        self._settled = asyncio.Event()
        self._shutdown: asyncio.Task[None] | None = None
        self._interrupted_at: float | None = None  # monotonic seconds, by who asked for that

    # --- launching

    def launch(self, command: Launch, profile: Profile, previous: ConnectionInfo | None) -> None:
        """Make a process; `Launched` or `LaunchFailed` follows."""
        self._launching = self.spawn(self._launch(command, profile, previous))

    def give_up_waiting(self, generation: int) -> None:
        """Let go of a launch that waits for a disk or for its turn, and has begun nothing."""
        if self._queued and self._launching:
            self._launching.cancel()
            self._tell(LaunchFailed(generation, "it was not wanted any more"))

    async def _launch(
        self, command: Launch, profile: Profile, previous: ConnectionInfo | None
    ) -> None:
        """Hand over what is warm at once; a start takes its turn among those that take long."""
        asked = time.monotonic_ns()
        try:
            self._check_lock()
            self._queued = True
            files = await read_launch_files(self._world, profile)
            self._queued = False
            handle = await self._hand_over(command, profile, previous, files)
        except Exception as error:  # noqa: BLE001  # whatever it is, nobody is to wait for ever
            await self._fail(command.generation, error)
            return
        if handle is not None:
            self._go_on(command, handle)
            return
        self._queued = True
        async with self._world.slots:
            self._queued = False
            self._settled.clear()
            try:
                self._world.launcher.expect(asked)
                async with asyncio.timeout(self._world.launch_limit):
                    handle = await self._make(command, profile, previous, files, asked)
            except Exception as error:  # noqa: BLE001  # as above
                await self._fail(command.generation, error)
                return
            self._go_on(command, handle)
            await self._settled.wait()

    def _check_lock(self) -> None:
        """See that no process of the kernel is there, before anything of it is replaced."""
        if is_held(self._world, self.name):
            raise StillThereError(
                f"an earlier process of it holds {self.files.lock}",
                hint=f"kconnd-ctl stop {self.name} ends it, where it is one of this machine's",
            )

    async def _fail(self, generation: int, error: Exception) -> None:
        """Say why there is no process; or take up the one that was met in its place."""
        if isinstance(error, StillThereError) and await self._recover():
            return
        if not isinstance(error, KconndError | OSError):
            log.error("%s: launching it", self.name, exc_info=error)
        self.trouble = _as_trouble(error, self._world.launch_limit)
        disk = isinstance(error, OSError | StateFileError)
        passing = disk and not isinstance(error, TimeoutError)
        reason, roll = self.trouble.message, self._world.roll()
        self._tell(LaunchFailed(generation, reason, roll, passing=passing))

    def _go_on(self, command: Launch, handle: Handle) -> None:
        """Look after what has been launched or handed over."""
        self.trouble = None
        self._learn(later=True, handle=handle.to_json(), facts=self._facts)
        self._tell(Launched(command.generation))
        warm, self._warm = self._warm, None
        self.attach(handle, self._facts, fresh=True, warm=warm)

    async def _hand_over(
        self,
        command: Launch,
        profile: Profile,
        previous: ConnectionInfo | None,
        files: LaunchFiles,
    ) -> Handle | None:
        """Become what was kept warm, where there is one; should that fail, it is ended."""
        pool = self._pool
        if previous is not None or pool is None or not pool.has(profile):
            return None
        check_descriptors(descriptors())
        taken = await pool.take(self.name, command.generation, profile, files)
        if taken is None:
            return None
        warm, plan = taken
        try:
            self._begin(profile, files.spec, warm.wire)
            self.write_connection_file()
            handle = pool.hand_over(warm, plan)
        except BaseException:
            pool.discard(warm, "its hand-over failed")
            raise
        self._warm = warm
        return handle

    async def _make(
        self,
        command: Launch,
        profile: Profile,
        previous: ConnectionInfo | None,
        files: LaunchFiles,
        asked: int,
    ) -> Handle:
        world = self._world
        check_descriptors(descriptors())
        wire = await prepare_wire(world, self.name, profile, files.spec, previous, command)
        for note in wire.notes:
            self._world.announce(self.name, "ports-changed", note)
        self._begin(profile, files.spec, wire)
        self._remove_sockets()
        self.write_connection_file()
        plan = make_plan(world, self.files, command.generation, profile, files, wire.connection)
        plan = replace(plan, asked=asked)
        try:
            return await world.launcher.launch(plan)
        except StartFailedError as error:
            if self._pool is None or not isinstance(error.__cause__, RefusedError):
                raise
            return await self._pool.launch_with_room(plan, error)

    def _begin(self, profile: Profile, spec: KernelSpec, wire: Wire) -> None:
        """Save what is about to be, before it is."""
        world = self._world
        self._launched_at = world.clock()
        self._startup_timeout = profile.startup_timeout
        self._facts = Facts(
            started_at=world.wall_clock(),
            kernel_name=spec.name,
            language=spec.language,
            interrupt_mode=spec.interrupt_mode,
            warnings=wire.warnings,
        )
        self.connection = wire.connection
        self._learn(
            must=True,
            connection=wire.connection,
            profile=profile.model_dump(mode="json", exclude_defaults=True),
            facts=self._facts,
            handle=None,
        )

    def claim(self) -> None:
        """See that an adopted kernel's ports are its own and its connection file is there."""
        with self._tolerating("claiming its ports and connection file"):
            if self.connection is None:
                return
            if self.connection.transport == "tcp":
                self._world.ledger.keep(self.name, self.connection.ports)
            if not is_private(self._connection_file, _file_of(self.connection)):
                self.write_connection_file()

    def mend(self, there: Collection[str]) -> None:
        """Write the connection file of a live kernel again, should somebody have removed it.

        Parameters
        ----------
        there : collection of str
            The paths that exist of those in the runtime folder and in the one for sockets.
        """
        if self.handle is None or self.connection is None:
            return
        if self.files.connection_file not in there:
            self.claim()
            self._world.announce(
                self.name, "mended", "its connection file was gone, and is there again"
            )
        if self.watch.execution_state and any(
            path not in there and _is_gone(path) for path in self.connection.socket_paths()
        ):
            self._warn(SOCKETS_GONE)

    def _warn(self, warning: str) -> None:
        if warning not in self._facts.warnings:
            self._facts = replace(self._facts, warnings=(*self._facts.warnings, warning))
            self._learn(facts=self._facts)
            self._world.announce(self.name, "warning", warning)

    def read_connection_file(self) -> None:
        """Learn from the connection file how to reach a kernel whose record was lost."""
        try:
            content = json.loads(read_regular(self._connection_file, MAX_OWN_BYTES))
            self.connection = parse_connection(content)
        except (OSError, ValueError) as error:
            log.error("%s: reading its connection file: %s", self.name, error)  # noqa: TRY400

    def write_connection_file(self) -> None:
        """Write what clients need, in its one place."""
        if self.connection is not None:
            write_private(self._connection_file, _file_of(self.connection))

    # --- watching

    def attach(
        self, handle: Handle, facts: Facts, *, fresh: bool, warm: WarmKernel | None = None
    ) -> None:
        """Watch a process: its end, its answers, its status.

        Parameters
        ----------
        handle : Handle
            Which one.
        facts : Facts
            What is known of it.
        fresh : bool
            Whether its first answer is still awaited; else it is one that was adopted.
        warm : WarmKernel, optional
            What it was until now, where it has answered already.
        """
        self.handle, self._facts = handle, facts
        self._interrupted_at = None
        self.kept_alive = ""
        self.watch.begin(fresh=fresh, habits=self.habits)
        self.fault = ""
        self.spawn(self._watch_exit(handle))
        if self.connection is None:
            self.fault = "its connection file is lost with its record"
            self._world.announce(self.name, "unreachable", f"{self.fault}; restart it")
            return
        self.reach = Reach(self.connection, self._connection_file, handle.shim)
        if fresh and warm is None:
            self.spawn(self._explain_silence(self.reach))
        channels = warm.channels if warm else self._world.connect(self.connection)
        answer = warm.answer if warm else None
        for work in self.watch.listen(
            channels, handle.generation, fresh=fresh, answer=answer, beats=self._beats()
        ):
            self.spawn(work)

    def detach(self) -> None:
        """Stop watching; the kernel is not touched."""
        self._settled.set()
        self.handle = self.reach = None
        self.fault = ""
        self.watch.end()
        current = asyncio.current_task()
        for task in self._tasks - {self._launching, current}:
            task.cancel()

    async def find_fault(self) -> str:
        """Say why no new client can attach to what has answered; empty where one can.

        A connection file that is gone is written again. A kernel that has just answered gets a
        moment to bind what it has not bound yet.
        """
        while (reach := self.reach) is not None:
            if not reach.has_file():
                self.claim()
            self.fault = await asyncio.to_thread(reach.find_fault)
            if not self.fault or self._world.clock() - self._answered_at > BIND_TIMEOUT_S:
                break
            await asyncio.sleep(BIND_POLL_S)  # no event tells that a kernel has bound its sockets
        return self.fault

    def note_fault(self, handle: Handle, fault: str) -> None:
        """Keep why no new client can attach to a process, if it is still the present one."""
        if self.handle is handle and self.is_ready and self.connection is not None:
            self.fault = fault

    async def _explain_silence(self, reach: Reach) -> None:
        """Before a start is given up, look whether the kernel listens where nobody was told."""
        await asyncio.sleep(max(0.0, self._startup_timeout - EXPLAIN_BEFORE_S))  # no event is due
        fault = await asyncio.to_thread(reach.find_fault)
        if not self.is_ready and INSTEAD in fault:
            self._warn(f"it does not follow its connection file: {fault}")

    def _answered(self, reply: Mapping[str, Any], first: bool) -> None:  # noqa: FBT001  # see `Watch`
        told = told_by(reply)
        if first:
            self._facts = replace(self._facts, ready_after=self._start_took())
            self._answered_at = self._world.clock()
            self._settled.set()
        if not first and self._facts.language:
            told.pop("language", None)  # the kernel spec's own word for it stays
        facts, self._facts = self._facts, replace(self._facts, **told)
        if first or self._facts != facts:
            self._learn(later=first, facts=self._facts)
        if self._facts.implementation:
            software = f"{self._facts.implementation} {self._facts.implementation_version}"
            self.watch.learn(self.watch.habits.about(software))

    def _start_took(self) -> float:
        """Give the seconds since the launch; another daemon left only the time of day of it."""
        if self._launched_at is not None:
            return round(self._world.clock() - self._launched_at, 4)
        now = self._world.wall_clock()
        return max(0.0, round(now - (self._facts.started_at or now), 4))

    def _learned(self, habits: Habits) -> None:
        """Keep what the kernel has shown; at once where its work may depend on it."""
        must = (habits.silent_busy, habits.overlaps) != (
            self.habits.silent_busy,
            self.habits.overlaps,
        )
        self.habits = habits
        self._learn(later=not must, habits=habits)

    async def _watch_exit(self, handle: Handle) -> None:
        found = await self._world.launcher.wait(handle)
        since = self._interrupted_s()
        output = read_tail(self.log_file, TAIL).rpartition(LAUNCH_MARK)[2].partition("\n")[2]
        reason = _describe(found)
        interrupted = ended_by_interrupt(
            found.code, found.signal, oom=found.oom, interrupted_s=since
        )
        if found.unit_stopped:
            reason = describe_unit_stop(PurePosixPath(handle.cgroup).name, reason)
        elif interrupted:
            reason = f"ended by the interrupt ({reason})"
        at = found.at or self._world.wall_clock()
        self._learn(last_exit=LastExit(found.code, found.signal, reason, at, output))
        self.detach()
        tcp = self.connection is not None and self.connection.transport == "tcp"
        self._tell(
            Exited(
                handle.generation,
                reason,
                success=found.code == 0 and not interrupted,
                lost=found.lost,
                ordered=found.unit_stopped,
                ports_taken=tcp and "ddress already in use" in output,
                roll=self._world.roll(),
            )
        )

    def _interrupted_s(self) -> float | None:
        """Give the seconds since an interrupt that somebody asked for; None if that is over.

        A kernel that begins to work on a request after it has lived through it.
        """
        at = self._interrupted_at
        return None if at is None or self.watch.busy_at > at else self._world.clock() - at

    @property
    def is_ready(self) -> bool:
        """Whether the kernel has answered."""
        return self.watch.execution_state is not None

    def clients(self) -> int | None:
        """Count who is connected; None where nobody can tell."""
        if self.connection is None or self.handle is None:
            return None
        return connected_clients(self.connection, self.handle.kernel.pid)

    # --- ending

    async def interrupt(self) -> None:
        """Interrupt what runs, in the way that its kernel spec asks for."""
        self._interrupted_at = self._world.clock()
        await self._interrupt()

    async def _interrupt(self) -> None:
        if self._facts.interrupt_mode == "message":
            await self.watch.request("interrupt_request", {})
        else:
            await self._signal(signal.SIGINT)

    async def signal(self, number: int) -> None:
        """Signal the kernel's process group.

        Raises
        ------
        NotRunningError
            If there is no process.
        """
        if number == signal.SIGINT:
            self._interrupted_at = self._world.clock()
        await self._signal(number)

    async def _signal(self, number: int) -> None:
        if self.handle is None:
            raise NotRunningError(f"signalling {self.name}: it has no process now")
        await self._world.launcher.signal(self.handle, number)

    def take(self, step: Step) -> None:
        """Take one step of a stop; the next one follows at a deadline, if it must."""
        self._interrupted_at = None  # its end is what was asked for now
        if self._shutdown is not None:
            self._shutdown.cancel()
            self._shutdown = None
        if step is Step.SHUTDOWN and self.handle is not None:
            self._shutdown = self.spawn(self._shut_down(self.handle))
        else:
            self.spawn(self._take(step))

    async def _take(self, step: Step) -> None:
        if step is Step.INTERRUPT:
            await self._interrupt()
        elif self.handle is not None:
            await self._world.launcher.stop(self.handle, step)

    async def _shut_down(self, handle: Handle) -> None:
        request = partial(self.watch.control, "shutdown_request", {"restart": False})
        ending = Ending(handle.kernel, handle.generation, self._facts.implementation)
        await shut_down(request, ending, self._tell, self._world.clock)

    def clean_up(self, *, recorded: bool = True) -> None:
        """Remove what the kernel left behind; its log and its record stay.

        Until its end is recorded, what its shim wrote of that stays, too: it is all that the next
        daemon has.
        """
        with self._tolerating("cleaning up after it"):
            if is_held(self._world, self.name):
                log.error("%s: a process of it is still there, so nothing was removed", self.name)
                return
            self._remove_sockets()
            self._connection_file.unlink(missing_ok=True)
            self._world.ledger.release(self.name)
            if not recorded:
                return
            for path in (*self.files.live, self.files.lock):
                Path(path).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _tolerating(self, doing: str) -> Iterator[None]:
        """Log what a full or read-only disk keeps from being done; the kernel goes on."""
        try:
            yield
        except OSError as error:
            log.error("%s: %s: %s", self.name, doing, error)  # noqa: TRY400  # it says all

    def _remove_sockets(self) -> None:
        for path in self.connection.socket_paths() if self.connection else ():
            Path(path).unlink(missing_ok=True)

    @property
    def _connection_file(self) -> Path:
        return Path(self.files.connection_file)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a part of the supervision beside the others, until `detach`."""
        task = asyncio.get_running_loop().create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Log what nobody awaits: a fault in watching must not go unseen."""
        try:
            await work
        except Exception:
            log.exception("%s: a task of its supervision failed", self.name)


def _describe(found: Exit) -> str:
    if found.oom:
        return describe_oom(own=found.oom_own, above=found.oom_above)
    return describe_exit(found.code, found.signal)


def _file_of(connection: ConnectionInfo) -> bytes:
    return json.dumps(connection.to_file(), indent=1).encode()


def _is_gone(path: str) -> bool:
    return not Path(path).exists()


def told_by(reply: Mapping[str, Any]) -> dict[str, Any]:
    """Take from a ``kernel_info_reply`` who the kernel says it is, as far as that makes sense."""
    info = reply.get("language_info")
    language = info if isinstance(info, dict) else {}
    said = {
        "language": language.get("name"),
        "language_version": language.get("version"),
        "implementation": reply.get("implementation"),
        "implementation_version": reply.get("implementation_version"),
        "protocol_version": reply.get("protocol_version"),
    }
    return {key: value[:LONGEST] for key, value in said.items() if value and type(value) is str}


def _as_trouble(error: Exception, limit: float) -> KconndError:
    if isinstance(error, KconndError):
        return error
    if isinstance(error, TimeoutError):
        return StartFailedError(
            f"launching it: no process within {limit:g} s",
            hint="a folder or program of it may be on a disk that does not answer; once it does, "
            "start it again",
        )
    return StartFailedError(
        f"preparing it: {error}", hint="mend what the message names, then start it again"
    )
