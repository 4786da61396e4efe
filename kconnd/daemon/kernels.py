"""All kernels of a daemon: the profiles they come from and the actors that supervise them."""

import asyncio
import contextlib
import difflib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

from kconnd.core.access import AccessRules
from kconnd.core.kernel.events import StartRequested, StopRequested
from kconnd.core.kernel.lifecycle import LIVE, Desired, State
from kconnd.core.kernel.record import KernelRecord, Origin
from kconnd.core.launch.kernel_files import is_facts, kernel_of_facts, live_dir
from kconnd.core.names import parse_name
from kconnd.core.profile.difference import (
    Difference,
    compare_profiles,
    profile_status,
    revoked_names,
)
from kconnd.core.profile.model import Profile, instantiate
from kconnd.daemon.catalog import Catalog, Source
from kconnd.daemon.context import World
from kconnd.daemon.kernel.actor import Actor
from kconnd.daemon.kernel.claims import Foreign, find_foreign, is_held, refuse
from kconnd.daemon.kernel.readings import Readings
from kconnd.daemon.kernel.stop_queue import StopTurns
from kconnd.daemon.qtconsoles import Consoles
from kconnd.daemon.warm.pool import Pool
from kconnd.daemon.yielding import in_turns
from kconnd.errors import (
    ElsewhereError,
    NoSuchKernelError,
    ProfileError,
    StateFileError,
    UsageError,
)
from kconnd.system.files.private import remove_temporary_files
from kconnd.system.hung_calls import BeginStep, StuckError
from kconnd.system.profiles.loader import LoadedProfiles
from kconnd.system.store import records_elsewhere

LOGGED_FAULTS = 100
MAX_SOURCES = 4096  # others than the owner may ask for many names
AGAIN = 5.0  # seconds until a kernel that could not be taken up is tried again

log = logging.getLogger("kconnd")


class Kernels:
    """The kernels of one owner.

    Parameters
    ----------
    world : World
        What they share.
    load : callable
        Reads all profiles afresh.
    pool : Pool, optional
        Keeps warm kernels.
    """

    def __init__(
        self, world: World, load: Callable[[], Awaitable[LoadedProfiles]], pool: Pool | None = None
    ) -> None:
        self.world, self.pool = world, pool
        self.catalog = Catalog(world.paths, world.kernelspecs)
        self._source = lru_cache(MAX_SOURCES)(partial(Source, self.catalog))
        self.taken_up = asyncio.Event()  # set once all is known that an earlier daemon left
        self.readings = Readings(world)
        self.stop_turns = StopTurns()
        self.consoles = Consoles()
        self.foreign: dict[str, Foreign] = {}  # another machine's, in our state folder
        self._load = load
        self._actors: dict[str, Actor] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._later: set[asyncio.Task[None]] = set()
        self._reloading = asyncio.Lock()
        # By what other machines said when somebody last asked for a kernel that is not here.
        self._seen_elsewhere: list[KernelRecord] = []

    # --- looking up

    def all(self) -> list[Actor]:
        """List every kernel, by name."""
        return [self._actors[name] for name in sorted(self._actors)]

    def find(self, name: str) -> Actor:
        """Find a kernel that is there, or whose profile is.

        Raises
        ------
        NoSuchKernelError, UsageError
            If there is none, or the name cannot be one.
        """
        _, instance = parse_name(name)
        self._check_ours(name)
        if name in self._actors:
            return self._actors[name]
        if instance or self._source(name)() is None:
            raise self._unknown(name)
        return self._actor(name)

    def find_to_start(self, name: str) -> Actor:
        """Find a kernel, or make a further instance of a profile.

        Raises
        ------
        NoSuchKernelError, UsageError, ProfileError
            If nothing of that name can be started.
        """
        _, instance = parse_name(name)
        self._check_ours(name)
        entry = self._source(name)()
        if name not in self._actors and entry is None:
            raise self._faulty(name) or self._unknown(name)
        if entry is not None and instance and entry.profile.ports.fixed:
            raise UsageError(
                f"starting {name}: its profile has fixed ports, which only one kernel can have",
                hint="give the profile a range of ports, such as 'ports: 20000-20999'",
            )
        self._check_claim(name)
        return self._actor(name)

    async def look_elsewhere(self) -> list[KernelRecord]:
        """List what other machines that share our home say of their kernels; reads files."""
        found = [one.record for one in self.foreign.values() if one.may_live]
        if self.world.machines_dir is not None:
            read = partial(_read_elsewhere, self.world.machines_dir, self.world.store.origin)
            with contextlib.suppress(StuckError):  # it can be on a file server
                found += await self.world.paths.run(read)
        return [record for record in found if record.lifecycle.state in LIVE]

    def profile(self, name: str) -> Profile | None:
        """Return the profile that a kernel's next launch follows; None where there is none."""
        entry = self._source(name)()
        return entry.profile if entry else None

    async def look_for(self, name: str) -> None:
        """Look on disk for what is not known by this name: a kernel spec, or another machine's."""
        try:
            base, _ = parse_name(name)
        except UsageError:
            return
        source = self._source(name)
        if name in self._actors or source() or base in self.catalog.loaded.first_faults:
            return
        await self.catalog.refresh()
        if source() is None:
            self._seen_elsewhere = await self.look_elsewhere()

    def profile_status(self, actor: Actor) -> str:
        """Say how the profile that a kernel follows stands to the one that is there now."""
        current = actor.source()
        launched = actor.record.profile if actor.kernel.state in LIVE else None
        return profile_status(launched, current and current.plain)

    def rules(self, name: str) -> AccessRules | None:
        """Give what a kernel's profile says now of who may do what; nothing where it is gone."""
        try:
            profile = self.profile(name)
        except UsageError:
            return None
        return profile.access if profile is not None else None

    def _check_ours(self, name: str) -> None:
        base, _ = parse_name(name)
        owner = self.catalog.loaded.elsewhere.get(base)
        if owner and name not in self._actors:
            error = ElsewhereError(f"{name} is a kernel of {owner}", hint=f"ask for {owner}/{name}")
            error.owner = owner
            raise error
        if name in self.foreign:
            raise refuse(self.foreign[name], self.world)

    def _check_claim(self, name: str) -> None:
        """See that nobody else has begun a kernel of this name since we looked."""
        actor = self._actors.get(name)
        if actor is not None and actor.kernel.state in LIVE:
            return
        foreign = find_foreign(self.world, name)
        if foreign is not None and not foreign.here:
            self._set_aside(name, foreign)
            raise refuse(foreign, self.world)

    def _set_aside(self, name: str, foreign: Foreign) -> None:
        self.foreign[name] = foreign
        if name in self._actors:
            self._forget(name)

    def _unknown(self, name: str) -> NoSuchKernelError:
        known = sorted({*self._actors, *self.catalog.loaded.profiles})
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "kconnd-ctl list shows what there is"
        base, instance = parse_name(name)
        if instance and self.profile(base):
            hint = f"kconnd-ctl start {name} makes it from the profile {base}"
        for record in self._seen_elsewhere:
            if record.name == name and record.origin:
                hint = f"{record.origin.host}, which shares this home, has one: ask there"
        return NoSuchKernelError(f"there is no kernel {name}", hint=hint)

    def _faulty(self, name: str) -> ProfileError | None:
        base, _ = parse_name(name)
        fault = self.catalog.loaded.first_faults.get(base)
        if fault is None:
            return None
        said = replace(fault, hint="")
        return ProfileError(f"the profile of {name} has faults: {said}", hint=fault.hint)

    def _actor(self, name: str) -> Actor:
        if name not in self._actors:
            self._add(KernelRecord(name))
        return self._actors[name]

    def _add(self, record: KernelRecord) -> Actor:
        name = record.name
        actor = Actor(record, self.world, self._source(name), self.pool)
        self._actors[name] = actor
        self._tasks[name] = asyncio.get_running_loop().create_task(actor.run(), name=name)
        return actor

    # --- the daemon's own life

    async def take_up(self) -> None:
        """Take up what an earlier daemon left, then start what is to run from the beginning."""
        await asyncio.gather(self._load_first(), self.catalog.refresh())
        self._tell_faults()
        store = self.world.store
        with contextlib.suppress(OSError):  # on a read-only disk they stay for now
            remove_temporary_files(self.world.runtime_dir)
            remove_temporary_files(Path(live_dir(str(self.world.runtime_dir))))
        if self.pool is not None:
            await self.pool.sweep()
        launched = _launched(self.world.runtime_dir)
        left = {*store.names(), *launched, *self._held()}
        forgotten = set()
        async for name in in_turns(left):
            if not self._restore(name, launched=name in launched):
                forgotten.add(name)
        with contextlib.suppress(OSError):  # as above
            store.tidy(left - forgotten - self.foreign.keys())
        here = store.origin.boot_id
        settled = {one.record.name for one in self.all() if _boot_of(one.record) == here}
        async for name in in_turns(set(self.catalog.loaded.profiles) - set(self.foreign)):
            self._actor(name)
        actors = self.all()
        await asyncio.gather(*(self._revive(one, one.record.name in forgotten) for one in actors))
        self.taken_up.set()
        boot = set(self.catalog.loaded.profiles) - settled - forgotten - set(self.foreign)
        await self._start_at_boot(boot)

    def _held(self) -> set[str]:
        """Name the kernels that have a process somewhere, whether they have a record or not."""
        return {name for name in self.world.store.locks() if is_held(self.world, name)}

    async def look_at_foreign(self, *names: str) -> None:
        """Take up what has turned out to be ours: another machine's kernel has ended, say.

        Looked at are these kernels, or all that are another's where none is named.
        """
        for name in self.foreign.keys() & (names or self.foreign.keys()):
            foreign = find_foreign(self.world, name)
            if foreign is not None:
                self.foreign[name] = foreign
                continue
            if self.foreign.pop(name, None) is None:
                continue  # somebody else is at it
            launched = name in _launched(self.world.runtime_dir)
            if launched or name in self.world.store.names():
                forgotten = not self._restore(name, launched=launched)
                if name in self._actors:
                    await self._revive(self._actors[name], forgotten)
            if name in self.catalog.loaded.profiles:
                self._actor(name)

    async def _load_first(self) -> None:
        try:
            self.catalog.replace(await self._load())
        except ProfileError as error:  # what lives is to be looked after in any case
            log.error("%s; %s", error, error.hint)  # noqa: TRY400  # its sentence says it all

    async def _revive(self, actor: Actor, forgotten: bool) -> None:  # noqa: FBT001  # of one caller
        """Take one kernel up; trouble with it keeps no other from being taken up."""
        try:
            await actor.revive(forgotten=forgotten)
        except OSError as error:  # no file descriptors, say: it may be different in a moment
            log.error("%s: taking it up: %s; again in %g s", actor.record.name, error, AGAIN)  # noqa: TRY400
            again = asyncio.get_running_loop().create_task(self._revive_later(actor, forgotten))
            self._later.add(again)
            again.add_done_callback(self._later.discard)
        except Exception:  # whatever is in its record, the others are to be looked after
            log.exception("%s: taking it up", actor.record.name)

    async def _revive_later(self, actor: Actor, forgotten: bool) -> None:  # noqa: FBT001  # the same
        await asyncio.sleep(AGAIN)  # what it failed by, such as a full disk, tells of no end
        await self._revive(actor, forgotten)

    def _restore(self, name: str, *, launched: bool) -> bool:
        """Restore a kernel from its record; false where only its shim can tell about it."""
        store = self.world.store
        foreign = find_foreign(self.world, name)
        if foreign is not None and not foreign.starts:
            self.foreign[name] = foreign
            return True
        try:
            record = store.read(name)
        except StateFileError as error:
            log.error("%s", error)  # noqa: TRY400  # its sentence says it all
            self._add(KernelRecord(name))
            return False
        kernel = record.lifecycle
        _, instance = parse_name(name)
        forgotten = kernel.state is State.STOPPED and kernel.desired is Desired.DOWN
        if launched or not forgotten or (not instance and name in self.catalog.loaded.profiles):
            self._add(record)
        return True

    async def _start_at_boot(self, names: set[str]) -> None:
        async for name in in_turns(sorted(names)):
            profile = self.profile(name)
            if profile is not None and profile.start == "boot":
                self._actor(name).enqueue(StartRequested(at_boot=True))

    async def reload(self) -> Difference:
        """Read the profiles again; no live kernel is touched.

        Those before hold until all are read and compared; from then on all that are new do.
        """
        async with self._reloading:
            loaded, _ = await asyncio.gather(self._load(), self.catalog.refresh())
            before = {name: found.profile for name, found in self.catalog.loaded.profiles.items()}
            after = {name: found.profile for name, found in loaded.profiles.items()}
            difference = await asyncio.to_thread(compare_profiles, before, after)
            names = [actor.record.name for actor in self.all()]
            rules = {name: self.rules(name) async for name in in_turns(names)}
            self.catalog.replace(loaded)
            await self._follow(difference, rules)
            return difference

    async def _follow(
        self, difference: Difference, rules: Mapping[str, AccessRules | None]
    ) -> None:
        """Do what follows from profiles that have changed; ``rules`` are those before."""
        async for actor in in_turns(self.all()):
            self._tell_of_keys(actor, rules.get(actor.record.name))
        added = set(difference.added) - set(self.foreign)
        async for name in in_turns(added):
            self._actor(name)
        await self._start_at_boot(added)
        async for name in in_turns(set(difference.removed) - set(self.foreign)):
            self._forget_idle(name)
        self._tell_faults()
        if self.pool is not None:
            self.pool.look_again()

    def _tell_faults(self) -> None:
        """Log the first faults; ``kconnd-ctl check`` shows all."""
        faults = self.catalog.loaded.faults
        for fault in faults[:LOGGED_FAULTS]:
            log.warning("%s", fault)
        if len(faults) > LOGGED_FAULTS:
            log.warning("and %d more faults in profiles", len(faults) - LOGGED_FAULTS)

    def _tell_of_keys(self, actor: Actor, before: AccessRules | None) -> None:
        """Say so where somebody may not connect any more and may still have the key."""
        name = actor.record.name
        gone = revoked_names(before, self.rules(name))
        if gone and actor.kernel.state in LIVE:
            actor.announce(
                "access-changed",
                f"{', '.join(gone)} may no longer connect; a key that was copied stays valid "
                f"until kconnd-ctl restart {name} --new-key",
            )

    def _forget_idle(self, name: str) -> None:
        actor = self._actors.get(name)
        if actor is not None and actor.kernel.state is State.STOPPED:
            self._forget(name)

    def _forget(self, name: str) -> None:
        self._actors.pop(name).end()  # its task may not even have begun
        self._tasks.pop(name).cancel()

    async def keep_warm(self) -> None:
        """Keep kernels ready for the profiles that ask for it."""
        if self.pool is not None:
            await self.pool.keep_for_ever(self._own_profiles, self._somebody_waits)

    def _own_profiles(self) -> list[Profile]:
        return [instantiate(found.profile, "") for found in self.catalog.loaded.profiles.values()]

    def _somebody_waits(self) -> bool:
        waiting = {State.LAUNCHING, State.STARTING}
        return any(actor.kernel.state in waiting for actor in self.all())

    async def stop_all(self) -> None:
        """Ask every kernel to end, and wait until all have."""
        live = [actor for actor in self.all() if actor.kernel.state in LIVE]
        for actor in live:
            await self.stop_turns.take(actor)
            await actor.ask(
                StopRequested(busy=actor.busy, why="the daemon was told to take it along")
            )
        for actor in live:
            await actor.until(lambda record: record.lifecycle.state not in LIVE)

    async def let_go(self) -> None:
        """Stop supervising; no kernel is touched."""
        if self.pool is not None:
            await self.pool.end()
        for actor in self.all():
            actor.process.detach()
        tasks = [*self._tasks.values(), *self._later]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _launched(runtime_dir: Path) -> set[str]:
    """Name the kernels of which a shim has left a record."""
    live = Path(live_dir(str(runtime_dir)))
    return {kernel_of_facts(path.name) for path in live.glob("*") if is_facts(path.name)}


def _read_elsewhere(folder: Path, origin: Origin, begin: BeginStep) -> list[KernelRecord]:
    begin(f"reading the records of other machines in {folder}")
    return list(records_elsewhere(folder, origin))


def _boot_of(record: KernelRecord) -> str:
    return record.origin.boot_id if record.origin else ""
