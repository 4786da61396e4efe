"""One kernel: everything that happens to it arrives in one queue and is decided in one place.

Rules. The actor saves first and acts second, so a crash between the two can be recovered
from. What an act leads to comes back as an event. Only the actor changes its record. A
request that cannot be saved is refused and changes nothing, unless it asks for an end or for what
is so already; what cannot be saved then, and a fact, is kept in memory, and saving is retried.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kconnd.core.kernel.events import (
    CleanUp,
    Command,
    DeadlinePassed,
    Event,
    Found,
    Launch,
    RestartAsked,
    StartAsked,
    StopAsked,
    TakeStep,
)
from kconnd.core.kernel.lifecycle import (
    LIVE,
    Desired,
    Lifecycle,
    Policy,
    State,
    decide,
)
from kconnd.core.kernel.record import Decision, Facts, KernelRecord
from kconnd.core.kernel.recovery import recover
from kconnd.core.profile.model import Profile
from kconnd.core.profile.parse import parse_profile
from kconnd.core.profile.policy import policy_of
from kconnd.daemon.context import World
from kconnd.daemon.kernel.prepared import WarmKernels
from kconnd.daemon.kernel.process import Life
from kconnd.errors import NoSuchKernelError, StateFileError, UnsafePathError
from kconnd.launchers.base import Handle, parse_handle
from kconnd.system.files.private import is_locked
from kconnd.system.process.processes import started_at

log = logging.getLogger("kconnd")

Request = StartAsked | StopAsked | RestartAsked
Asked = tuple[Event, asyncio.Future[None] | None]


class Actor:
    """Supervises one kernel.

    Parameters
    ----------
    record : KernelRecord
        What is known of it.
    world : World
        What all kernels share.
    profile : callable
        Gives the profile that its next launch is to follow; None where that was removed.
    pool : WarmKernels, optional
        Kernels that a launch can use instead of a start.
    """

    def __init__(
        self,
        record: KernelRecord,
        world: World,
        profile: Callable[[], Profile | None],
        pool: WarmKernels | None = None,
    ) -> None:
        self.record = record
        self.life = Life(
            record.name,
            world,
            tell=self.tell,
            learn=self._learn,
            recover=self._recover,
            beats=lambda: math.isfinite(self.profile().heartbeat.interval),
            pool=pool,
        )
        self.life.connection, self.life.habits = record.connection, record.habits
        self._world = world
        self._current_profile = profile
        self._queue: asyncio.Queue[Asked] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._ended = False  # whether nobody takes what is asked any more
        self._unsaved = False  # whether what is kept in memory is ahead of what was saved
        self.unrecorded = ""  # why the last that was to be saved could not be
        self._launched: tuple[Mapping[str, Any] | None, Profile | None] = (None, None)

    @property
    def kernel(self) -> Lifecycle:
        """Where the kernel stands."""
        return self.record.lifecycle

    @property
    def busy(self) -> bool:
        """Whether a cell may be running."""
        return self.life.watch.execution_state in {"busy", "unknown"}

    def profile(self) -> Profile:
        """Give the profile that the present process follows, or else the next will."""
        current = self._current_profile()
        if current is None or (self.kernel.state in LIVE and self.record.profile):
            # What an older daemon launched must not fail by a newer one's rules.
            return self._launched_profile() or current or Profile(name="unknown", kernel="unknown")
        return current

    def _launched_profile(self) -> Profile | None:
        """Give the profile of the present process, parsed once for each launch."""
        plain, profile = self._launched
        if self.record.profile is not plain:
            plain = self.record.profile
            profile, _ = parse_profile(plain or {}, name=self.record.name)
            self._launched = plain, profile
        return profile

    @property
    def policy(self) -> Policy:
        """What its profile says about starting and restarting."""
        return policy_of(self.profile())

    # --- what others may do

    def tell(self, event: Event) -> None:
        """Take note of what happened."""
        self._queue.put_nowait((event, None))

    async def ask(self, request: Request) -> None:
        """Make a request, and wait until it is decided and saved.

        A stop is carried out also where it cannot be saved; `unrecorded` says why, then.

        Raises
        ------
        StateFileError
            If another cannot be saved; nothing has changed then.
        NoSuchKernelError
            If the kernel was forgotten meanwhile: it had ended, and its profile was removed.
        """
        if self._ended:
            raise self._gone()
        decided: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((request, decided))
        await decided

    async def until(self, condition: Callable[[KernelRecord], bool]) -> KernelRecord:
        """Wait until the record is as wished."""
        while not condition(self.record):
            await self._changed.wait()
        return self.record

    async def run(self) -> None:
        """Take events until cancelled; requests that were not taken then are refused."""
        try:
            while True:
                await self._take_next()
        finally:
            self.end()

    def end(self) -> None:
        """Refuse what was asked and not decided, and all that is asked later."""
        self._ended = True
        while not self._queue.empty():
            _, decided = self._queue.get_nowait()
            if decided is not None and not decided.done():
                decided.set_exception(self._gone())

    def _gone(self) -> NoSuchKernelError:
        return NoSuchKernelError(
            f"there is no kernel {self.record.name} any more",
            hint="it ended, and its profile was removed; kconnd-ctl list shows what there is",
        )

    async def _take_next(self) -> None:
        event, decided = await self._next()
        trouble: Exception | None = None
        try:
            self._take(event, refusable=decided is not None)
        except StateFileError as error:
            trouble = error
        except Exception as error:  # the kernel is looked after all the same
            log.exception("%s: a fault in the daemon, at %s", self.record.name, event)
            trouble = error
        if decided is None or decided.done():
            return
        if trouble is None:
            decided.set_result(None)
        else:
            decided.set_exception(trouble)

    # --- taking up what an earlier daemon left

    async def revive(self, *, forgotten: bool = False) -> None:
        """Find out what became of the kernel while no daemon looked, and say so.

        Parameters
        ----------
        forgotten : bool
            Whether its record was lost, so that only its shim can tell.
        """
        origin, here = self.record.origin, self._world.store.origin
        handle = await self._find_handle()
        proof = await self._world.launcher.adopt(handle) if handle else ""
        event = recover(
            self.kernel,
            launch=handle.generation if handle else None,
            alive=bool(proof),
            forgotten=forgotten,
            rebooted=origin is not None and origin.boot_id != here.boot_id,
        )
        if event is not None:
            self.tell(event)
        if handle is not None and (isinstance(event, Found) or self._is_on_record(handle)):
            self._take_over(handle, event, proof)
        elif not self._is_live():
            self.life.clean_up()  # what a daemon left that died before it could

    def _take_over(self, handle: Handle, event: Event | None, proof: str) -> None:
        """Watch a process that an earlier daemon launched; that sees its end, too."""
        found = isinstance(event, Found)
        fresh = not found and self.kernel.state in {State.LAUNCHING, State.STARTING}
        if found or self.life.connection is None:
            self.life.read_connection_file()
            self._learn(connection=self.life.connection)
        if found:
            self._learn(facts=Facts(started_at=self._recorded_at(handle)))
        if self.record.handle != handle.to_json():  # what was read has been saved
            self._learn(handle=handle.to_json())
        self.life.claim()
        if event is not None:
            how = "found again from what its shim recorded: " if found else ""
            self.announce("adopted", f"{how}pid {handle.kernel.pid}, by {proof}")
        self.life.attach(handle, self.record.facts, fresh=fresh)

    def _recorded_at(self, handle: Handle) -> float:
        """Tell when the shim recorded the kernel, whose process may be older than the launch."""
        try:
            return Path(self.life.files.facts).stat().st_mtime
        except OSError:
            return started_at(handle.kernel)

    async def _recover(self) -> bool:
        """Take up a process that a launch has met; tells whether there is one."""
        await self.revive(forgotten=True)
        return self.life.handle is not None

    def _is_on_record(self, handle: Handle) -> bool:
        return self._is_live() and handle.generation == self.kernel.generation

    async def _find_handle(self) -> Handle | None:
        """Find the process of this run of the machine that is on record, or that its shim is."""
        handle = _handle(self.record)
        if handle is None or not self._is_on_record(handle):
            files = self.life.files
            # Only a lock that is held proves that an earlier version launched the process.
            lock = files.old_lock if is_locked(Path(files.old_lock)) else files.lock  # short
            handle = await self._world.launcher.find(files.facts, files.exit, lock)
        here = self._world.store.origin.boot_id
        return handle if handle is not None and handle.boot_id == here else None

    def _is_live(self) -> bool:
        return self.kernel.state in LIVE

    # --- the loop's parts

    async def _next(self) -> Asked:
        try:
            async with asyncio.timeout_at(self.kernel.deadline):
                return await self._queue.get()
        except TimeoutError:
            return DeadlinePassed(), None

    def _take(self, event: Event, *, refusable: bool) -> None:
        before = self.kernel
        kernel, commands = decide(before, event, self.policy, self._world.clock())
        record = replace(self.record, lifecycle=kernel)
        told = _story(before, kernel)
        if told:
            record = record.noted(Decision(self._world.wall_clock(), told, kernel.reason))
        same = replace(kernel, deadline=before.deadline) == before  # that one is never saved
        # A stop is carried out on a full disk, too: it may be what frees some.
        must = refusable and not same and not isinstance(event, StopAsked)
        if self._unsaved or not same:
            if must or commands or self._queue.empty():
                self._save(record, refusable=must)
            else:
                self._unsaved = True  # until the next event is taken, which is there already
        self.record = record
        if told:
            self.announce(kernel.state.value, f"{told}: {kernel.reason}")
        for command in commands:
            self._act(command)
        if kernel.state is State.LAUNCHING and kernel.desired is Desired.DOWN:
            self.life.give_up_waiting(kernel.generation)
        self._wake()

    def _act(self, command: Command) -> None:
        if isinstance(command, Launch):
            profile = self._current_profile() or self.profile()
            anew = command.new_key and command.new_ports
            previous = None if anew else self.record.connection
            self.life.launch(command, profile, previous)
        elif isinstance(command, TakeStep):
            self.life.take(command.step)
        elif isinstance(command, CleanUp):
            self.life.clean_up(recorded=not self.unrecorded)

    def _learn(self, *, must: bool = False, later: bool = False, **changes: Any) -> None:
        """Keep what was learned.

        ``must`` where nothing may be done before it is saved; ``later`` where an event that
        was told with it saves it in a moment, and a crash before that loses nothing that the
        shim has not recorded, too.
        """
        record = replace(self.record, **changes)
        if later:
            self._unsaved = True
        else:
            self._save(record, refusable=must)
        self.record = record
        self._wake()

    def _save(self, record: KernelRecord, *, refusable: bool) -> None:
        try:
            self._world.store.save(record)
            self._unsaved, self.unrecorded = False, ""
        except (OSError, UnsafePathError) as error:
            if refusable:
                raise StateFileError(
                    f"saving what was decided about {record.name}: {error}",
                    hint="the request was not carried out; free disk space or mend the state "
                    "folder's permissions, then ask again",
                ) from error
            if self.unrecorded != str(error):
                log.error("%s: saving its record: %s; kept in memory", record.name, error)  # noqa: TRY400
            self._unsaved, self.unrecorded = True, str(error)

    def save_again(self) -> None:
        """Save what could not be saved before, and remove what was kept until then."""
        if not self.unrecorded:
            return
        self._save(self.record, refusable=False)
        if not (self.unrecorded or self._is_live()):
            self.life.clean_up()

    def announce(self, kind: str, message: str) -> None:
        """Tell all who listen what happened to this kernel."""
        self._world.announce(self.record.name, kind, message)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _handle(record: KernelRecord) -> Handle | None:
    """Read a record's handle; one that makes no sense is none, and the shim tells instead."""
    try:
        return parse_handle(dict(record.handle)) if record.handle else None
    except (KeyError, TypeError, ValueError) as error:
        log.warning("%s: the handle in its record: %r", record.name, error)
        return None


def _story(before: Lifecycle, after: Lifecycle) -> str:
    """Say what changed, in the words of ``kconnd-ctl why``; ``""`` where nothing did."""
    if before.state is not after.state:
        return f"{before.state} → {after.state}"
    if before.generation != after.generation:
        return f"launch {after.generation}"
    if told := _story_of_stop(before, after):
        return told
    if before.desired is not after.desired:
        return f"wanted {after.desired}"
    if before.unresponsive is not after.unresponsive:
        return "unresponsive" if after.unresponsive else "responsive again"
    return ""


def _story_of_stop(before: Lifecycle, after: Lifecycle) -> str:
    if before.step is not after.step and after.step is not None:
        return f"stopping by {after.step}"
    if before.waits_for != after.waits_for and after.waits_for:
        return f"its end waits for {after.waits_for}"
    return ""
