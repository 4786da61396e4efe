"""Kernels that are kept ready (``warm: N``), and the parents that others are forked from.

A warm kernel is a process like any other, with a shim, an empty namespace and no name. Who
starts its profile, or an instance of it, gets it in place of a start. Rules. It is handed over
only where a start now would make the very same process (`same_start`); it learns its name and
the path of its connection file inside, too. It is nobody's work yet: it ends with the daemon,
and one that a killed daemon left is ended by the next. Others are made one at a time, when
nobody waits for a start and there is memory left.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from kconnd.core.kernelspec import KernelSpec
from kconnd.core.plan import LaunchPlan
from kconnd.core.profile import Profile
from kconnd.core.warm import same_start
from kconnd.daemon.handover import hand_over, note_learned, tell_again, tell_name
from kconnd.daemon.leftovers import sweep
from kconnd.daemon.preparing import check_descriptors, find_spec, make_plan
from kconnd.daemon.warming import Maker, Warm
from kconnd.daemon.world import World
from kconnd.errors import KconndError
from kconnd.launchers.base import Handle
from kconnd.system.memory import available_memory
from kconnd.system.processes import descriptors, tree_memory

ROUND = 10.0  # seconds between looks whether what is ready is still what a start would make
GLANCE = 0.1  # seconds between looks while something keeps one from being made
LEAST = 256 << 20  # bytes of memory that have to be left
LONGEST = 60.0  # seconds at the most before a kernel that failed is tried again

log = logging.getLogger("kconnd")


class Pool:
    """The warm kernels of a daemon.

    Parameters
    ----------
    world : World
        What all kernels share.
    available : callable
        Gives the bytes of memory that can still be had.
    """

    def __init__(self, world: World, available: Callable[[], int] = available_memory) -> None:
        self._world, self._available = world, available
        self._ready: dict[str, list[Warm]] = {}
        self._failures: dict[str, int] = {}
        self._retry: dict[str, float] = {}
        self._prepared: set[str] = set()
        self._naming: dict[str, asyncio.Task[bool]] = {}
        self._watching: set[asyncio.Task[None]] = set()
        self._maker = Maker(world)
        self._due = asyncio.Event()

    @property
    def ready(self) -> int:
        """How many can be handed over."""
        return sum(map(len, self._ready.values()))

    def look_again(self) -> None:
        """Look now: profiles have changed, or one is missing."""
        self._due.set()

    # --- handing over

    async def take(
        self, name: str, generation: int, profile: Profile, spec: KernelSpec
    ) -> tuple[Warm, LaunchPlan] | None:
        """Take one out that is what a start would make, and tell it its name.

        Returns
        -------
        tuple, optional
            The kernel, and the plan that it stands for.
        """
        ready = self._ready.get(profile.name, [])
        for warm in list(ready):
            plan = make_plan(self._world, name, generation, profile, spec, warm.wire.connection)
            if not same_start(plan, warm.plan):
                continue
            ready.remove(warm)
            self.look_again()
            if changed := warm.signatures.changed():
                self.discard(warm, f"{changed} has changed")
                continue
            naming = tell_name(self._world, warm.channels, warm.plan.name, plan.name)
            self._naming[warm.plan.name] = asyncio.create_task(naming)
            await asyncio.sleep(0)  # so that it learns its name while the rest is done
            return warm, plan
        return None

    def hand_over(self, warm: Warm, plan: LaunchPlan) -> Handle:
        """Give a kernel that was taken its name for good; see `kconnd.daemon.handover`.

        Nobody waits until it has learned it, since what others ask can only come later.
        """
        old = warm.plan.name
        handle = hand_over(self._world, warm, plan)
        self._spawn(note_learned(self._world, self._naming.pop(old), old, plan.name))
        self._spawn(self._remove_link_after(handle, old))
        return handle

    async def _remove_link_after(self, handle: Handle, old: str) -> None:
        """Remove what is left of a kernel's time without a name, once nothing writes by it."""
        await self._world.launcher.wait(handle)
        self._maker.forget(old)

    # --- keeping them

    async def keep_for_ever(
        self, profiles: Callable[[], Iterable[Profile]], waiting: Callable[[], bool]
    ) -> None:
        """Keep as many ready as profiles say.

        Parameters
        ----------
        profiles : callable
            Gives all profiles as they are now.
        waiting : callable
            Tells whether somebody waits for a start.
        """
        while True:
            self._due.clear()
            missing = False
            for profile in profiles():
                with contextlib.suppress(KconndError, OSError):  # a start of it will say so
                    await self._prepare(profile)
                if profile.warm or profile.name in self._ready:
                    await self._keep(profile, waiting)
                    missing |= len(self._ready[profile.name]) < profile.warm
            known = {profile.name for profile in profiles()}
            for name in set(self._ready) - known:
                for warm in self._ready.pop(name):
                    self.discard(warm, "its profile is gone")
            await asyncio.sleep(GLANCE)  # those who start several at once come first
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GLANCE if missing else ROUND):
                    await self._due.wait()

    async def _prepare(self, profile: Profile) -> None:
        """Have the parent ready that kernels of a profile are forked from."""
        forked = profile.launcher == "fork" or profile.preload
        key = profile.model_dump_json()
        if forked and profile.start != "manual" and key not in self._prepared:
            self._prepared.add(key)
            plan, _ = await self._maker.plan(profile)
            self._world.ledger.release(plan.name)
            await self._world.launcher.prepare(plan)

    async def _keep(self, profile: Profile, waiting: Callable[[], bool]) -> None:
        """Let go of what a start would not make any more, and make what is missing."""
        name = profile.name
        ready = self._ready.setdefault(name, [])
        for warm in list(ready):
            why = self._stale(profile, warm)
            if why or len(ready) > profile.warm:
                ready.remove(warm)
                self.discard(warm, why or "nobody asks for so many")
        while len(ready) < profile.warm and not waiting():
            if self._world.clock() < self._retry.get(name, 0.0) or not self._has_room(ready):
                return
            await self._add(profile)

    def _stale(self, profile: Profile, warm: Warm) -> str:
        """Say why a kernel is not what a start would make now, or ``""``."""
        try:
            spec = find_spec(profile)
            connection = warm.wire.connection
            now = make_plan(self._world, profile.name, 1, profile, spec, connection)
        except (KconndError, OSError):
            return "its profile cannot be started any more"
        if not same_start(now, warm.plan):
            return "its profile has changed"
        changed = warm.signatures.changed()
        return f"{changed} has changed" if changed else ""

    def _has_room(self, ready: list[Warm]) -> bool:
        like = max((tree_memory(warm.handle.shim) for warm in ready[-1:]), default=LEAST // 2)
        return self._available() > LEAST + 2 * like

    async def _add(self, profile: Profile) -> None:
        """Start one, and keep it once it has answered."""
        name = profile.name
        try:
            check_descriptors(descriptors())
            warm = await self._maker.make(profile)
        except (KconndError, OSError, TimeoutError) as error:
            self._failed(name, str(error) or "it did not answer")
            return
        self._ready[name].append(warm)
        self._spawn(self._see_end(name, warm, self._world.clock()))

    def _failed(self, name: str, why: str) -> None:
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        pause = min(LONGEST, 2.0**failures)
        self._retry[name] = self._world.clock() + pause
        log.warning("%s: keeping one warm: %s; again in %g s", name, why, pause)

    async def _see_end(self, name: str, warm: Warm, since: float) -> None:
        await self._world.launcher.wait(warm.handle)
        if warm not in self._ready.get(name, ()):
            return
        self._ready[name].remove(warm)
        warm.channels.close()
        self._maker.forget(warm.plan.name, warm.wire.connection.socket_paths())
        self.look_again()
        if self._world.clock() - since < LONGEST:
            self._failed(name, "it ended by itself")

    # --- ending them

    def discard(self, warm: Warm, why: str) -> None:
        """End one that was taken out or is not wanted any more."""
        if naming := self._naming.pop(warm.plan.name, None):
            naming.cancel()
        self._maker.discard(warm, why)

    async def sweep(self) -> None:
        """End what a daemon left that was killed: nobody has worked in it."""
        for named in await sweep(self._world, self._maker):
            if named.handle is not None:
                self._spawn(self._remove_link_after(named.handle, named.old))
            if not named.told:
                self._spawn(tell_again(self._world, named.old, named.name))

    async def end(self) -> None:
        """End all that wait for a name; they hold nobody's work."""
        for ready in self._ready.values():
            for warm in ready:
                self.discard(warm, "the daemon ends")
            ready.clear()
        await self._maker.end()
        for task in self._watching:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)
