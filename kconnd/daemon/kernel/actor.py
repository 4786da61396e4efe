"""The actor of one kernel: it takes events from a queue and makes all decisions about the kernel.

The actor handles one event at a time. It decides, saves the record, and then acts. If the daemon
crashes between these steps, the next daemon can recover. The result of an action is a new event.
Observations about the kernel arrive in the same queue, so that the actor alone changes the record.

A start writes the record twice. First, the decision to launch and the profile are saved before the
launch. Second, the record is saved after the first answer of the kernel
(`kconnd.core.kernel.learned`). Between these two times, the shim's files on disk show the progress
of the launch.

On a full disk, the record cannot be saved. A request is then refused and changes nothing, with two
exceptions: a stop, and a request that does not change the state. A stop and all events of the
process take effect in memory. Their effects are saved at the next event or by the daemon's periodic
repair. The actor never launches a process before the decision to launch is saved.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import replace

from kconnd.core.kernel.events import (
    CleanUp,
    Command,
    DeadlinePassed,
    Event,
    Launch,
    RestartRequested,
    StartRequested,
    StopRequested,
    TakeStep,
)
from kconnd.core.kernel.learned import Learned, learn, needs_saving, without_deadline
from kconnd.core.kernel.lifecycle import LIVE, Desired, Lifecycle, Policy, State
from kconnd.core.kernel.record import Decision, KernelRecord
from kconnd.core.kernel.transitions import decide
from kconnd.core.launch.capabilities import Software
from kconnd.core.launch.notebook import NO_NOTEBOOK, Notebook, Run, next_notebook
from kconnd.core.launch.session import Session, names_to_request
from kconnd.core.profile.model import Profile
from kconnd.core.profile.parse import parse_profile
from kconnd.daemon.catalog import CatalogEntry
from kconnd.daemon.context import World
from kconnd.daemon.kernel.adoption import Discovery, discover
from kconnd.daemon.kernel.launching import Launching, ProcessMet
from kconnd.daemon.kernel.prepared import WarmKernels
from kconnd.daemon.kernel.process import Process, Target
from kconnd.daemon.kernel.run_watch import RunWatch
from kconnd.daemon.kernel.wiring import Previous, wire_settings
from kconnd.errors import NoSuchKernelError, StartFailedError, StateFileError, UnsafePathError
from kconnd.system.activation import hint_about_setup
from kconnd.system.launch_files import read_launch_files

WITHOUT = "without variables"  # the title of a decision
SOFTWARE_TIMEOUT_S = 1.0  # an interrupt waits for it
# The entry of a kernel whose record contains no profile and which has no profile now.
UNKNOWN = CatalogEntry(Profile(name="unknown", kernel="unknown"))

log = logging.getLogger("kconnd")

Request = StartRequested | StopRequested | RestartRequested
News = Event | Learned | ProcessMet
Entry = tuple[News, asyncio.Future[None] | None]  # the future ends when the decision is made


class Actor:
    """Supervises one kernel.

    Parameters
    ----------
    record : KernelRecord
        The kernel's record, as saved.
    world : World
        The objects that all kernels share.
    source : callable
        A function that returns the catalog's entry for the next launch; None without a profile.
    pool : WarmKernels, optional
        The warm kernels that a launch can use instead of starting a process.
    """

    def __init__(
        self,
        record: KernelRecord,
        world: World,
        source: Callable[[], CatalogEntry | None],
        pool: WarmKernels | None = None,
    ) -> None:
        self.record = record
        self.process = Process(
            record.name,
            world,
            self.enqueue,
            connection=record.connection,
            habits=record.habits,
            read_software=self._read_software,
        )
        self.launching = Launching(self.process, world, self.enqueue, pool)
        self._run_watch = RunWatch(record.name, self._report_end_of_run)
        self.unrecorded = ""  # why the last save failed; empty if it succeeded
        self._world = world
        world.sessions.restore(record.name, record.session)
        self.source = source
        self._saved = record
        self._queue: asyncio.Queue[Entry] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._ended = False  # True when the queue is no longer read
        self._launched: CatalogEntry | None = None
        self._unparsed = record.profile  # the profile in the record, until it is parsed

    @property
    def kernel(self) -> Lifecycle:
        """The kernel's state."""
        return self.record.lifecycle

    @property
    def busy(self) -> bool:
        """Whether the kernel may be running a cell."""
        return self.process.watch.execution_state in {"busy", "unknown"}

    @property
    def profile(self) -> Profile:
        """The profile of the present process or, without a process, of the next launch."""
        return self._followed().profile

    @property
    def profile_to_launch(self) -> Profile:
        """The profile of the next launch."""
        return self._entry_to_launch().profile

    @property
    def policy(self) -> Policy:
        """The profile's rules for starts and restarts; the kernel of a run is not restarted."""
        policy = self._followed().policy
        return replace(policy, restart="no") if self._run() else policy

    def _followed(self) -> CatalogEntry:
        if self.kernel.state in LIVE and (launched := self._find_launched()):
            return launched
        return self.source() or self._find_launched() or UNKNOWN

    def _find_launched(self) -> CatalogEntry | None:
        """Return the entry that the last process was launched with; None if unknown.

        The profile is not checked against the rules, because an older version of kconnd with other
        rules may have accepted it.
        """
        if self._unparsed is not None:
            profile, _ = parse_profile(self._unparsed, name=self.record.name)
            self._launched = CatalogEntry(profile) if profile else None
            self._unparsed = None
        return self._launched

    # --- the interface of the actor

    def enqueue(self, event: News) -> None:
        """Put an event into the queue of this actor."""
        self._queue.put_nowait((event, None))

    async def ask(self, request: Request) -> None:
        """Make a request, and wait until the decision is made and saved.

        A stop is carried out even if the record cannot be saved; `unrecorded` then contains the
        reason.

        Raises
        ------
        StateFileError
            If the request is not a stop, and the decision about it cannot be saved. The request
            then changes nothing.
        NoSuchKernelError
            If the actor has ended, because the kernel had exited and its profile was removed.
        """
        if self._ended:
            raise self._gone()
        decided: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((request, decided))
        await decided

    async def until(self, condition: Callable[[KernelRecord], bool]) -> KernelRecord:
        """Wait until the record meets a condition; return the record."""
        while not condition(self.record):
            await self._changed.wait()
        return self.record

    async def run(self) -> None:
        """Handle events until this task is cancelled, then refuse the remaining requests."""
        try:
            while True:
                await self._take_next()
        finally:
            self.end()

    def end(self) -> None:
        """Refuse the requests in the queue and all later requests."""
        self._ended = True
        self._run_watch.follow(None)
        while not self._queue.empty():
            _, decided = self._queue.get_nowait()
            if decided is not None and not decided.done():
                decided.set_exception(self._gone())

    def _gone(self) -> NoSuchKernelError:
        return NoSuchKernelError(
            f"there is no kernel {self.record.name} any more",
            hint="it ended, and its profile was removed; kconnd-ctl list shows what there is",
        )

    def save_again(self) -> None:
        """Retry a failed save of the record; then clean up if the kernel has no process."""
        if not self.unrecorded:
            return
        self._save(self.record, refusable=False)
        if not (self.unrecorded or self._is_live()):
            self.process.clean_up()

    def announce(self, kind: str, message: str) -> None:
        """Publish an event about this kernel to all subscribers."""
        self._world.announce(self.record.name, kind, message)

    # --- adoption

    async def revive(self, *, forgotten: bool = False) -> None:
        """Determine the kernel's state after a time without a daemon; supervise its process again.

        Parameters
        ----------
        forgotten : bool
            Whether the record is lost or does not contain the process. The shim's files then
            describe the process.
        """
        runtime, fresh = (
            self.process.runtime,
            self.kernel.state in {State.LAUNCHING, State.STARTING},
        )
        self._run_watch.follow(self._run() if self._is_live() else None)
        discovery = await discover(
            self._world, self.record, runtime, self.profile, forgotten=forgotten
        )
        if discovery.event is not None:
            self.enqueue(discovery.event)
        if discovery.handle is not None:
            self._adopt(discovery, fresh=fresh and not discovery.is_new)
        elif not self._is_live():
            self.process.clean_up()  # the earlier daemon may have died before the clean-up

    def _adopt(self, discovery: Discovery, *, fresh: bool) -> None:
        """Supervise a process that an earlier daemon launched; it may already be dead.

        If it is dead, the supervision reports its exit.
        """
        handle, connection, facts = discovery.handle, discovery.connection, discovery.facts
        if handle is None:
            return
        plain = handle.to_json()
        self.enqueue(Learned(handle.generation, handle=plain, connection=connection, facts=facts))
        if connection is not None:
            self.process.runtime.claim(connection)
        if discovery.event is not None:
            how = "found again from what its shim recorded: " if discovery.is_new else ""
            self.announce("adopted", f"{how}pid {handle.kernel.pid}, by {discovery.proof}")
        beats = math.isfinite(self.profile.heartbeat.interval)
        attempt, timeout_s = discovery.attempt, self.profile.startup_timeout
        self.process.attach(
            Target(
                handle,
                connection,
                facts,
                beats=beats,
                fresh=fresh,
                startup_timeout=timeout_s,
                attempt=attempt,
                has_setup=bool(self.profile.setup),
            )
        )

    async def _adopt_or_fail(self, met: ProcessMet) -> None:
        await self.revive(forgotten=True)
        if self.process.handle is None:
            self.enqueue(met.failure)
        else:
            self.launching.trouble = None

    async def _read_software(self) -> Software:
        """Read what is known of the software of the present process."""
        try:
            async with asyncio.timeout(SOFTWARE_TIMEOUT_S):
                hints = self._world.program_hints(self.record)
                return (await read_launch_files(self._world, self.profile, hints)).software
        except (StartFailedError, OSError) as error:
            log.warning("%s: reading what is known of its software: %s", self.record.name, error)
            return Software()

    async def find_setup_hint(self) -> str:
        """Return what is missing in ``setup``, according to the output of the last process."""
        output = self.record.last_exit.output_tail if self.record.last_exit else ""
        return await hint_about_setup(self._world.paths, self._world.user, output)

    def _is_live(self) -> bool:
        return self.kernel.state in LIVE

    # --- one event

    async def _take_next(self) -> None:
        event, decided = await self._next()
        error: Exception | None = None
        try:
            self._take(event, refusable=decided is not None)
        except StateFileError as refusal:
            error = refusal
        except Exception as fault:  # the actor must continue after any exception
            log.exception("%s: a fault in the daemon, at %s", self.record.name, event)
            error = fault
        if decided is None or decided.done():
            return
        if error is None:
            decided.set_result(None)
        else:
            decided.set_exception(error)

    async def _next(self) -> Entry:
        try:
            async with asyncio.timeout_at(self.kernel.deadline):
                return await self._queue.get()
        except TimeoutError:
            return DeadlinePassed(), None

    def _take(self, event: News, *, refusable: bool) -> None:
        if isinstance(event, ProcessMet):
            self.process.spawn(self._adopt_or_fail(event))
            return
        before = self.kernel
        record, commands = self._decide(event)
        self._save_if_needed(record, event, refusable=refusable, act=bool(commands))
        self.record = record
        if story := _story(before, record.lifecycle):
            self.announce(self.kernel.state.value, f"{story}: {self.kernel.reason}")
        for command in commands:
            self._act(command)
        if self.kernel.state is State.LAUNCHING and self.kernel.desired is Desired.DOWN:
            self.launching.withdraw(self.kernel.generation)
        self._run_watch.follow(self._run() if self._is_live() else None)
        self._wake()

    def _decide(self, event: Event | Learned) -> tuple[KernelRecord, tuple[Command, ...]]:
        """Return the record after an event, and the commands to run."""
        if isinstance(event, Learned):
            return learn(self.record, event), ()
        before = self.kernel
        kernel, commands = decide(before, event, self.policy, self._world.clock())
        record = replace(self.record, lifecycle=kernel)
        if isinstance(event, StartRequested):
            record = replace(record, notebook=self._next_notebook(event.notebook))
        if story := _story(before, kernel):
            record = record.with_decision(Decision(self._world.wall_clock(), story, kernel.reason))
        if any(isinstance(command, Launch) for command in commands):
            record = replace(record, profile=self._entry_to_launch().plain, handle=None)
            record = self._note_missing(_with_session(record, before, event))
        if _searches_program(event, before, kernel):
            record = replace(record, program=None)
        return _with_session(record, before, event), commands

    def _note_missing(self, record: KernelRecord) -> KernelRecord:
        """Record the variables of ``pass_env`` that no client has been asked for."""
        missing = names_to_request(record.session or Session(), self.profile_to_launch.pass_env)
        if not missing:
            return record
        reason = f"no client of {self._world.user.name} has sent {', '.join(missing)} (pass_env)"
        return record.with_decision(Decision(self._world.wall_clock(), WITHOUT, reason))

    def _run(self) -> Run | None:
        return self.record.notebook.run if self.record.notebook else None

    def _report_end_of_run(self) -> None:
        self.enqueue(StopRequested(busy=self.busy, why="the run that had it has ended"))

    def _next_notebook(self, sent: Notebook | None) -> Notebook | None:
        is_own = self._entry_to_launch().profile.instance == "per-session"
        return next_notebook(self.record.notebook, sent, is_up=self._is_live(), is_own=is_own)

    def _entry_to_launch(self) -> CatalogEntry:
        return self.source() or self._followed()

    def _act(self, command: Command) -> None:
        if isinstance(command, Launch):
            self._launch(command)
        elif isinstance(command, TakeStep):
            self.process.take(command)
        elif isinstance(command, CleanUp):
            self.process.clean_up(recorded=not self.unrecorded)

    def _launch(self, command: Launch) -> None:
        if self.unrecorded:
            self.launching.refuse(command.generation, self._unsaved_error(self.unrecorded))
            return
        renewed = command.new_key and command.new_ports
        old, connection = self._find_launched(), None if renewed else self.record.connection
        self._launched, self._unparsed = self._entry_to_launch(), None
        profile = self._launched.profile
        previous = None
        if connection is not None:
            same = old is not None and wire_settings(old.profile) == wire_settings(profile)
            # A kernel that has not answered yet may have been trying a wire, and has no clients.
            same = same and self.kernel.proved
            previous = Previous(connection, same_wire=same)
        hints = self._world.program_hints(self.record)
        notebook = self.record.notebook or NO_NOTEBOOK
        self.launching.begin(command, profile, previous, hints, notebook)

    # --- the record

    def _save_if_needed(
        self, record: KernelRecord, event: Event | Learned, *, refusable: bool, act: bool
    ) -> None:
        # A stop is not refused on a full disk, because the stop may free disk space.
        must = refusable and not isinstance(event, StopRequested)
        if must:
            # A full disk does not keep a front end from attaching to a running kernel.
            before = replace(self.record, notebook=record.notebook)
            must = without_deadline(record) != without_deadline(before)
        # If more events are queued, their changes are saved together after the last event.
        due = must or act or self._queue.empty()
        if due and needs_saving(self._saved, record, event):
            self._save(record, refusable=must)

    def _save(self, record: KernelRecord, *, refusable: bool) -> None:
        try:
            self._world.store.save(record)
            self._saved, self.unrecorded = record, ""
        except (OSError, UnsafePathError) as error:
            if refusable:
                raise self._unsaved_error(error) from error
            if self.unrecorded != str(error):
                log.error("%s: saving its record: %s; kept in memory", record.name, error)
            self.unrecorded = str(error)

    def _unsaved_error(self, why: object) -> StateFileError:
        return StateFileError(
            f"saving the decision about {self.record.name}: {why}",
            hint="the request was not carried out; free disk space or correct the "
            "permissions of the state folder, then repeat the request",
        )

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _searches_program(event: Event, before: Lifecycle, after: Lifecycle) -> bool:
    """Return whether a user's start searches the kernel's program anew; a restart keeps it."""
    if not isinstance(event, StartRequested) or event.at_boot:
        return False
    return after.generation != before.generation or after.state is State.STOPPING


def _with_session(record: KernelRecord, before: Lifecycle, event: Event) -> KernelRecord:
    """Keep the session of a request that launches a process, now or after the end of the old one.

    A request without a session keeps the session of an earlier request.
    """
    if not isinstance(event, StartRequested | RestartRequested) or event.session is None:
        return record
    launches = record.lifecycle.generation != before.generation
    if launches or record.lifecycle.state is State.STOPPING:
        return replace(record, session=event.session)
    return record


def _story(before: Lifecycle, after: Lifecycle) -> str:
    """Describe a change for ``kconnd-ctl why``; ``""`` if there is no change."""
    if before.state is not after.state:
        return f"{before.state} → {after.state}"
    if before.generation != after.generation:
        return f"launch {after.generation}"
    if story := _story_of_stop(before, after):
        return story
    if before.desired is not after.desired:
        return f"wanted {after.desired}"
    if before.unresponsive is not after.unresponsive:
        return "unresponsive" if after.unresponsive else "responsive again"
    return ""


def _story_of_stop(before: Lifecycle, after: Lifecycle) -> str:
    if before.step is not after.step and after.step is not None:
        return f"stopping by {after.step}"
    if before.waits_for != after.waits_for and after.waits_for:
        return f"its exit waits for {after.waits_for}"
    return ""
