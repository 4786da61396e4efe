"""All kernels of a daemon, each supervised by an actor.

There is an actor for each profile file, for each kernel with a record, and for each kernel that a
request has named. The state folder can be shared with other machines and containers. A kernel in
this folder is foreign if it belongs, or may belong, to another machine or container. A foreign
kernel has no actor, and the daemon does not change it. If a later check shows that a foreign kernel
belongs to this daemon, the daemon adopts it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path

from kconnd.core.access import AccessRules
from kconnd.core.kernel.events import StartRequested, StopRequested
from kconnd.core.kernel.lifecycle import LIVE, State
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
from kconnd.core.unknown_kernel import NameSearch, explain_unknown
from kconnd.daemon.catalog import Catalog, Source
from kconnd.daemon.context import World
from kconnd.daemon.kernel.actor import Actor
from kconnd.daemon.kernel.claims import Foreign, find_foreign, is_held, refuse
from kconnd.daemon.kernel.readings import Readings
from kconnd.daemon.kernel.stop_queue import StopTurns
from kconnd.daemon.probing.capability_probe import Prober
from kconnd.daemon.qtconsoles import QtConsoles
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

MAX_LOGGED_FAULTS = 100
MAX_SOURCES = 4096  # limits the memory for other users' requests with many names
ADOPT_RETRY_DELAY_S = 5.0
UP_TO_DATE_TIMEOUT_S = 6.0  # the limit for a request that waits until changed profiles are read

log = logging.getLogger("kconnd")


class Kernels:
    """The kernels of one owner.

    Parameters
    ----------
    world : World
        The objects that all kernels share.
    load : callable
        A function that reads all profile files.
    pool : Pool, optional
        The pool of warm kernels.
    """

    def __init__(
        self, world: World, load: Callable[[], Awaitable[LoadedProfiles]], pool: Pool | None = None
    ) -> None:
        self.world, self.pool = world, pool
        self.catalog = Catalog(world.paths, world.kernelspecs)
        self._source = lru_cache(MAX_SOURCES)(partial(Source, self.catalog))
        self.adopted = asyncio.Event()  # set when all kernels of an earlier daemon are adopted
        self.up_to_date = asyncio.Event()  # cleared while a changed profile is not read yet
        self.up_to_date.set()
        self.readings = Readings(world)
        self.stop_turns = StopTurns()
        self.consoles = QtConsoles()
        self.prober = Prober(world)
        self.foreign: dict[str, Foreign] = {}
        self._load = load
        self._actors: dict[str, Actor] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._retries: set[asyncio.Task[None]] = set()
        self._reloading = asyncio.Lock()
        self._elsewhere: list[KernelRecord] = []  # as of the last request for an unknown name

    # --- finding kernels

    def all(self) -> list[Actor]:
        """List all kernels, sorted by name."""
        return [self._actors[name] for name in sorted(self._actors)]

    def find(self, name: str) -> Actor:
        """Return the actor of a kernel; create it if the name has a profile or kernel spec.

        Raises
        ------
        NoSuchKernelError, UsageError
            If there is no such kernel, or if the name is invalid.
        """
        _, instance = parse_name(name)
        self._check_ours(name)
        if name in self._actors:
            return self._actors[name]
        if instance or self._source(name)() is None:
            raise self._unknown(name)
        return self._actor(name)

    def find_to_start(self, name: str) -> Actor:
        """Return the actor of a kernel that is to be started; create the actor if necessary.

        Raises
        ------
        NoSuchKernelError, UsageError, ProfileError
            If no kernel of this name can be started.
        """
        _, instance = parse_name(name)
        self._check_ours(name)
        entry = self._source(name)()
        if name not in self._actors and entry is None:
            raise self.catalog.find_fault(name) or self._unknown(name)
        if entry is not None and instance and entry.profile.ports.fixed:
            raise UsageError(
                f"starting {name}: its profile has fixed ports, which only one kernel can have",
                hint="give the profile a range of ports, such as 'ports: 20000-20999'",
            )
        self._check_claim(name)
        return self._actor(name)

    async def list_elsewhere(self) -> list[KernelRecord]:
        """Read the records of live kernels on other machines that share the owner's home."""
        records = [foreign.record for foreign in self.foreign.values() if foreign.may_live]
        if self.world.machines_dir is not None:
            read = partial(_read_elsewhere, self.world.machines_dir, self.world.store.origin)
            with contextlib.suppress(StuckError):  # the folder can be on a file server that hangs
                records += await self.world.paths.run(read)
        return [record for record in records if record.lifecycle.state in LIVE]

    def profile(self, name: str) -> Profile | None:
        """Return the profile for a kernel's next launch; None without a profile or kernel spec."""
        entry = self._source(name)()
        return entry.profile if entry else None

    async def await_profile(self, name: str) -> None:
        """If a name is unknown, wait while a changed profile, which may have it, is not read yet.

        So a profile can be used as soon as its file is written, without a reload.
        """
        if self.up_to_date.is_set() or self.is_known(name):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(UP_TO_DATE_TIMEOUT_S):
                await self.up_to_date.wait()

    def is_known(self, name: str) -> bool:
        """Return whether a name has a kernel, or a profile or kernel spec as of the last scan."""
        base, _ = parse_name(name)
        known = name in self._actors or base in self.catalog.loaded.elsewhere
        return known or self._source(name)() is not None

    async def search_for(self, name: str) -> None:
        """Search for an unknown name on disk: among kernel specs and other machines' kernels."""
        base, _ = parse_name(name)
        source = self._source(name)
        if name in self._actors or source() or base in self.catalog.loaded.first_faults:
            return
        await self.catalog.refresh()
        if source() is None:
            self._elsewhere = await self.list_elsewhere()

    def profile_status(self, actor: Actor) -> str:
        """Describe how the present profile differs from the profile of a kernel's process."""
        current = actor.source()
        launched = actor.record.profile if actor.kernel.state in LIVE else None
        return profile_status(launched, current and current.plain)

    def rules(self, name: str) -> AccessRules | None:
        """Return the access rules of a kernel's present profile; None without a profile."""
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

    def is_foreign(self, name: str) -> bool:
        """Return whether the kernel of a name belongs to another machine or container now.

        This method reads the disk, and can be called in a thread. A kernel that has a process here
        is not foreign, whatever is on disk: a shim takes the kernel's lock before it writes its
        facts, and in between, the holder of the lock is unknown.
        """
        if name in self.foreign:
            return True
        # The actor is asked last, because it may begin a launch while the disk is read.
        return find_foreign(self.world, name) is not None and not self._has_process(name)

    def _has_process(self, name: str) -> bool:
        actor = self._actors.get(name)
        return actor is not None and actor.kernel.state in LIVE

    def _check_claim(self, name: str) -> None:
        """Refuse a kernel that another machine or container has launched since the last check."""
        if self._has_process(name):
            return
        foreign = find_foreign(self.world, name)
        if foreign is not None and not foreign.here:
            self._set_aside(name, foreign)
            raise refuse(foreign, self.world)

    def _set_aside(self, name: str, foreign: Foreign) -> None:
        self.foreign[name] = foreign
        if name in self._actors:
            self.forget(name)

    def _unknown(self, name: str) -> NoSuchKernelError:
        base, _ = parse_name(name)
        store = self.world.store
        removed = self._was_removed(base) and store.peek(name) is not None
        known = NameSearch(
            names={*self._actors, *self.catalog.loaded.profiles},
            specs=self.catalog.spec_names.specs,
            log=self.world.files(name).log if removed else "",
            has_profile=self.profile(base) is not None,
            hosts=[
                record.origin.host
                for record in self._elsewhere
                if record.name == name and record.origin
            ],
        )
        return explain_unknown(name, known)

    def _was_removed(self, base: str) -> bool:
        """Return whether this name has no profile, not even a profile with faults."""
        return self.profile(base) is None and base not in self.catalog.loaded.first_faults

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

    # --- start of the daemon

    async def adopt_all(self) -> None:
        """Adopt the kernels of an earlier daemon; start others that have ``start: boot``."""
        await asyncio.gather(self._load_first(), self.catalog.refresh())
        self._log_faults()
        store = self.world.store
        with contextlib.suppress(OSError):  # on a read-only disk, unfinished files stay
            remove_temporary_files(self.world.runtime_dir)
            remove_temporary_files(Path(live_dir(str(self.world.runtime_dir))))
        if self.pool is not None:
            await self.pool.sweep()
        launched = _launched(self.world.runtime_dir)
        names = {*store.names(), *launched, *self._held()}
        unrecorded = set()
        async for name in in_turns(names):
            if not self._restore(name, launched=name in launched):
                unrecorded.add(name)
        with contextlib.suppress(OSError):  # a read-only disk
            store.tidy(names - unrecorded - self.foreign.keys())
            self.world.capabilities.tidy()
        boot_id = store.origin.boot_id
        # If a kernel has a record of this boot, an earlier daemon has already applied ``start:
        # boot`` to it. Since then, a user may have stopped the kernel.
        decided = {actor.record.name for actor in self.all() if _boot_of(actor.record) == boot_id}
        async for name in in_turns(set(self.catalog.loaded.profiles) - set(self.foreign)):
            self._actor(name)
        adoptions = (self._adopt(actor, actor.record.name in unrecorded) for actor in self.all())
        await asyncio.gather(*adoptions)
        self.adopted.set()
        undecided = set(self.catalog.loaded.profiles) - decided - unrecorded - set(self.foreign)
        await self._start_at_boot(undecided)

    def _held(self) -> set[str]:
        """Return the names of kernels whose lock is held, including kernels without a record."""
        return {name for name in self.world.store.locks() if is_held(self.world, name)}

    async def recheck_foreign(self, *names: str) -> None:
        """Adopt foreign kernels that now belong to this daemon.

        Without names, all foreign kernels are checked.
        """
        for name in self.foreign.keys() & (names or self.foreign.keys()):
            foreign = find_foreign(self.world, name)
            if foreign is not None:
                self.foreign[name] = foreign
                continue
            if self.foreign.pop(name, None) is None:
                continue  # another task has already adopted the kernel
            launched = name in _launched(self.world.runtime_dir)
            if launched or name in self.world.store.names():
                unrecorded = not self._restore(name, launched=launched)
                if name in self._actors:
                    await self._adopt(self._actors[name], unrecorded)
            if name in self.catalog.loaded.profiles:
                self._actor(name)

    async def _load_first(self) -> None:
        try:
            self.catalog.replace(await self._load())
        except ProfileError as error:  # live kernels are supervised even without profiles
            log.error("%s; %s", error, error.hint)

    async def _adopt(self, actor: Actor, unrecorded: bool) -> None:  # noqa: FBT001  # internal
        """Adopt one kernel; an error is logged and does not affect other kernels."""
        name = actor.record.name
        try:
            await actor.revive(forgotten=unrecorded)
        except OSError as error:  # the error may be temporary, such as a lack of file descriptors
            delay_s = ADOPT_RETRY_DELAY_S
            log.error("%s: adopting it: %s; next attempt in %g s", name, error, delay_s)
            retry = asyncio.get_running_loop().create_task(self._adopt_later(actor, unrecorded))
            self._retries.add(retry)
            retry.add_done_callback(self._retries.discard)
        except Exception:  # an invalid record must not affect other kernels
            log.exception("%s: adopting it", name)

    async def _adopt_later(self, actor: Actor, unrecorded: bool) -> None:  # noqa: FBT001  # internal
        # This is a fixed delay, because there is no event when, for example, a disk has room again.
        await asyncio.sleep(ADOPT_RETRY_DELAY_S)
        await self._adopt(actor, unrecorded)

    def _restore(self, name: str, *, launched: bool) -> bool:
        """Restore a kernel from its record; return False if the record is damaged."""
        store = self.world.store
        foreign = find_foreign(self.world, name)
        if foreign is not None and not foreign.starts:
            self.foreign[name] = foreign
            return True
        try:
            record = store.read(name)
        except StateFileError as error:
            log.error("%s", error)
            self._add(KernelRecord(name))
            return False
        _, instance = parse_name(name)
        is_over = record.is_down and not record.is_ended_run  # whose files are removed later
        if launched or not is_over or (not instance and name in self.catalog.loaded.profiles):
            self._add(record)
        return True

    async def _start_at_boot(self, names: set[str]) -> None:
        async for name in in_turns(sorted(names)):
            profile = self.profile(name)
            if profile is not None and profile.start == "boot":
                self._actor(name).enqueue(StartRequested(at_boot=True))

    async def reload(self) -> Difference:
        """Reload the profiles; live kernels are not changed.

        The old profiles stay in force until all new profiles are read and compared. Then all
        profiles are replaced at once.
        """
        async with self._reloading:
            loaded, _ = await asyncio.gather(self._load(), self.catalog.refresh())
            before, after = _profiles_of(self.catalog.loaded), _profiles_of(loaded)
            difference = await asyncio.to_thread(compare_profiles, before, after)
            names = [actor.record.name for actor in self.all()]
            rules = {name: self.rules(name) async for name in in_turns(names)}
            self.catalog.replace(loaded)
            await self._follow(difference, rules)
            return difference

    async def _follow(
        self, difference: Difference, rules: Mapping[str, AccessRules | None]
    ) -> None:
        """Add and remove kernels after a reload.

        ``rules`` maps the name of each kernel to the kernel's access rules before the reload.
        """
        async for actor in in_turns(self.all()):
            self._warn_of_copied_key(actor, rules.get(actor.record.name))
        added = set(difference.added) - set(self.foreign)
        async for name in in_turns(added):
            self._actor(name)
        await self._start_at_boot(added)
        async for name in in_turns(set(difference.removed) - set(self.foreign)):
            self._forget_idle(name)
        self._log_faults()
        if self.pool is not None:
            self.pool.look_again()

    def _log_faults(self) -> None:
        """Log the first faults of the profiles; ``kconnd-ctl check`` shows all faults."""
        faults = self.catalog.loaded.faults
        for fault in faults[:MAX_LOGGED_FAULTS]:
            log.warning("%s", fault)
        if len(faults) > MAX_LOGGED_FAULTS:
            log.warning("and %d more faults in profiles", len(faults) - MAX_LOGGED_FAULTS)

    def _warn_of_copied_key(self, actor: Actor, before: AccessRules | None) -> None:
        """Publish a warning that users who lost the right to connect may still have the key."""
        name = actor.record.name
        users = revoked_names(before, self.rules(name))
        if users and actor.kernel.state in LIVE:
            actor.announce(
                "access-changed",
                f"{', '.join(users)} may no longer connect; a copied key stays valid "
                f"until kconnd-ctl restart {name} --new-key",
            )

    def _forget_idle(self, name: str) -> None:
        actor = self._actors.get(name)
        if actor is not None and actor.kernel.state is State.STOPPED:
            self.forget(name)

    def forget(self, name: str) -> None:
        """End the supervision of a kernel that has no process."""
        self._actors.pop(name).end()  # needed if the actor's task has not begun
        self._tasks.pop(name).cancel()

    async def keep_warm(self) -> None:
        """Keep warm kernels for the profiles with ``warm: N``."""
        if self.pool is not None:
            await self.pool.keep_for_ever(self._own_profiles, self._is_any_starting)

    def _own_profiles(self) -> list[Profile]:
        return [instantiate(loaded.profile, "") for loaded in self.catalog.loaded.profiles.values()]

    def _is_any_starting(self) -> bool:
        starting = {State.LAUNCHING, State.STARTING}
        return any(actor.kernel.state in starting for actor in self.all())

    async def stop_all(self) -> None:
        """Stop all kernels, and wait until they have exited."""
        live = [actor for actor in self.all() if actor.kernel.state in LIVE]
        why = "the daemon exited with --stop-kernels-on-exit"
        for actor in live:
            await self.stop_turns.take(actor)
            await actor.ask(StopRequested(busy=actor.busy, why=why))
        for actor in live:
            await actor.until(lambda record: record.lifecycle.state not in LIVE)

    async def detach_all(self) -> None:
        """End the supervision; named kernels keep running, warm kernels and probes end."""
        await self.prober.end()
        if self.pool is not None:
            await self.pool.end()
        for actor in self.all():
            actor.process.detach()
        tasks = [*self._tasks.values(), *self._retries]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _profiles_of(loaded: LoadedProfiles) -> dict[str, Profile]:
    return {name: sourced.profile for name, sourced in loaded.profiles.items()}


def _launched(runtime_dir: Path) -> set[str]:
    """Return the names of the kernels whose shim has written a facts file."""
    live = Path(live_dir(str(runtime_dir)))
    return {kernel_of_facts(path.name) for path in live.glob("*") if is_facts(path.name)}


def _read_elsewhere(folder: Path, origin: Origin, begin: BeginStep) -> list[KernelRecord]:
    begin(f"reading the records of other machines in {folder}")
    return list(records_elsewhere(folder, origin))


def _boot_of(record: KernelRecord) -> str:
    return record.origin.boot_id if record.origin else ""
