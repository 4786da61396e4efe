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

from kconnd.core.launch.plan import LaunchPlan
from kconnd.core.launch.warm import same_start
from kconnd.core.profile.model import Profile
from kconnd.daemon.context import World
from kconnd.daemon.kernel.prepare import (
    LaunchFiles,
    check_descriptors,
    make_plan,
    read_launch_files,
)
from kconnd.daemon.kernel.prepared import WarmKernel
from kconnd.daemon.warm.handover import hand_over, note_learned, tell_again, tell_name
from kconnd.daemon.warm.leftovers import sweep
from kconnd.daemon.warm.maker import ENDING, Maker
from kconnd.errors import KconndError, RefusedError, StartFailedError
from kconnd.launchers.base import Handle
from kconnd.system.hung_calls import Begin, StuckError
from kconnd.system.process.memory import available_memory
from kconnd.system.process.processes import descriptors, tree_memory

ROUND = 10.0  # seconds between looks whether what is ready is still what a start would make
GLANCE = 0.1  # seconds between looks while something keeps one from being made
LEAST = 256 << 20  # bytes of memory that have to be left
PAUSES = (0.0, 0.1, 0.3, 1.0)  # seconds before each try of a launch that was refused
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
        self._ready: dict[str, list[WarmKernel]] = {}
        self._failures: dict[str, int] = {}
        self._retry: dict[str, float] = {}
        self._told: dict[str, str] = {}  # why the last one failed
        self._delays: dict[str, float] = {}
        self._making: asyncio.Task[WarmKernel] | None = None
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
        self._delays.clear()
        self._due.set()

    def has(self, profile: Profile) -> bool:
        """Tell whether any is ready for a profile."""
        return bool(self._ready.get(profile.name))

    # --- handing over

    async def take(
        self, name: str, generation: int, profile: Profile, files: LaunchFiles
    ) -> tuple[WarmKernel, LaunchPlan] | None:
        """Take one out that is what a start would make, and tell it its name.

        Returns
        -------
        tuple, optional
            The kernel, and the plan that it stands for.
        """
        ready = self._ready.get(profile.name, [])
        for warm in list(ready):
            connection, kernel_files = warm.wire.connection, self._world.files(name)
            plan = make_plan(self._world, kernel_files, generation, profile, files, connection)
            if warm not in ready or not same_start(plan, warm.plan):
                continue
            ready.remove(warm)
            self._worked(profile.name)
            self.look_again()
            if why := await self._changed(warm):
                self.discard(warm, why)
                continue
            naming = tell_name(self._world, warm.channels, warm.plan.name, plan.name)
            self._naming[warm.plan.name] = asyncio.create_task(naming)
            await asyncio.sleep(0)  # so that it learns its name while the rest is done
            return warm, plan
        return None

    def hand_over(self, warm: WarmKernel, plan: LaunchPlan) -> Handle:
        """Give a kernel that was taken its name for good; see `kconnd.daemon.warm.handover`.

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
            pause = await self._look(list(profiles()), waiting)
            await asyncio.sleep(GLANCE)  # those who start several at once come first
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._due.wait()

    async def _look(self, profiles: list[Profile], waiting: Callable[[], bool]) -> float:
        """Go round once, and give the seconds until that makes sense again."""
        pause = ROUND
        self._make_room()
        for profile in profiles:
            with contextlib.suppress(KconndError, OSError):  # a start of it will say so
                await self._prepare(profile)
            if profile.warm or profile.name in self._ready:
                pause = min(pause, await self._keep(profile, waiting))
        for name in set(self._ready) - {profile.name for profile in profiles}:
            for warm in self._ready.pop(name):
                self.discard(warm, "its profile is gone")
        return pause

    def _make_room(self) -> None:
        """Let go of as many as memory lacks."""
        lacking = LEAST - self._available()
        for ready in self._ready.values():
            while ready and lacking > 0:
                warm = ready.pop()
                lacking -= tree_memory(warm.handle.shim)
                self.discard(warm, "memory has run short")

    async def _prepare(self, profile: Profile) -> None:
        """Have the parent ready that kernels of a profile are forked from."""
        forked = profile.launcher == "fork" or profile.preload
        if not forked or profile.start == "manual":
            return
        key = profile.model_dump_json()
        if key not in self._prepared:
            self._prepared.add(key)
            plan, _ = await self._maker.plan(profile)
            self._world.ledger.release(plan.name)
            await self._world.launcher.prepare(plan)

    async def _keep(self, profile: Profile, waiting: Callable[[], bool]) -> float:
        """Let go of what a start would not make any more, and make what is missing.

        Returns
        -------
        float
            Seconds until the next look; more and more while something keeps one from being made.
        """
        name = profile.name
        ready = self._ready.setdefault(name, [])
        for warm in list(ready):
            why = await self._stale(profile, warm)
            if warm not in ready:  # it was taken meanwhile, or has ended
                continue
            if why or len(ready) > profile.warm:
                ready.remove(warm)
                self.discard(warm, why or "nobody asks for so many")
        while len(ready) < profile.warm:
            again = self._retry.get(name, 0.0) - self._world.clock()
            if again > 0:
                return again
            if waiting() or not self._has_room(ready):
                self._delays[name] = delay = min(ROUND, 2 * self._delays.get(name, GLANCE))
                return delay
            await self._add(profile)
        self._delays.pop(name, None)
        return ROUND

    async def _stale(self, profile: Profile, warm: WarmKernel) -> str:
        """Say why a kernel is not what a start would make now, or ``""``."""
        try:
            files = await read_launch_files(self._world, profile)
            connection = warm.wire.connection
            kernel_files = self._world.files(profile.name)
            now = make_plan(self._world, kernel_files, 1, profile, files, connection)
        except (KconndError, OSError):
            return "its profile cannot be started any more"
        if not same_start(now, warm.plan):
            return "its profile has changed"
        return await self._changed(warm)

    async def _changed(self, warm: WarmKernel) -> str:
        """Say which of the files that a kernel has read is another now; ``""`` if none is."""

        def look(begin: Begin) -> str:
            begin(f"looking at what {warm.plan.name} has read")
            return warm.signatures.changed()

        try:
            changed = await self._world.paths.run(look)
        except StuckError as error:
            return str(error)
        return f"{changed} has changed" if changed else ""

    def _has_room(self, ready: list[WarmKernel]) -> bool:
        like = max((tree_memory(warm.handle.shim) for warm in ready[-1:]), default=LEAST // 2)
        return self._available() > LEAST + 2 * like

    async def _add(self, profile: Profile) -> None:
        """Start one, and keep it once it has answered."""
        name = profile.name
        making = self._making = asyncio.create_task(self._maker.make(profile))
        try:
            check_descriptors(descriptors())
            await asyncio.wait([making])
            if not making.cancelled():  # else it has made room for another
                self._keep_ready(name, making.result())
        except (KconndError, OSError, TimeoutError) as error:
            self._failed(name, str(error) or "it did not answer")
        finally:
            making.cancel()

    def _keep_ready(self, name: str, warm: WarmKernel) -> None:
        self._ready[name].append(warm)
        self._spawn(self._see_end(name, warm, self._world.clock()))

    def _failed(self, name: str, why: str) -> None:
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        pause = min(LONGEST, 2.0**failures)
        self._retry[name] = self._world.clock() + pause
        level = logging.DEBUG if self._told.get(name) == why else logging.WARNING
        self._told[name] = why
        log.log(level, "%s: keeping one warm: %s; again in %g s", name, why, pause)

    def _worked(self, name: str) -> None:
        """Forget failures: one was of use, or has lived for long."""
        for known in (self._failures, self._retry, self._told):
            known.pop(name, None)

    async def _see_end(self, name: str, warm: WarmKernel, since: float) -> None:
        await self._world.launcher.wait(warm.handle)
        if warm not in self._ready.get(name, ()):
            return
        self._ready[name].remove(warm)
        warm.channels.close()
        self._maker.forget(warm.plan.name, warm.wire.connection.socket_paths())
        self.look_again()
        if self._world.clock() - since < LONGEST:
            self._failed(name, "it ended by itself")
        else:
            self._worked(name)

    # --- ending them

    async def launch_with_room(self, plan: LaunchPlan, refusal: StartFailedError) -> Handle:
        """Launch what was refused for a quota, once a kernel that nobody uses has made room.

        Raises
        ------
        StartFailedError
            If there is none, or the launch fails all the same.
        """
        if not await self._release():
            raise refusal
        for pause in PAUSES:
            await asyncio.sleep(pause)  # the service manager counts one that ended for a moment yet
            try:
                return await self._world.launcher.launch(plan)
            except StartFailedError as error:
                if not isinstance(error.__cause__, RefusedError):
                    raise
                refusal = error
        raise refusal

    async def _release(self) -> bool:
        """End one that is ready or being made, and tell whether there was one."""
        why = "another kernel needs its place"
        for ready in self._ready.values():
            if ready:
                await asyncio.wait([self.discard(ready.pop(), why)], timeout=ENDING)
                return True
        if self._making is None or self._making.done():
            return False
        self._making.cancel()
        await asyncio.wait([self._making])
        await self._maker.end()
        return True

    def discard(self, warm: WarmKernel, why: str) -> asyncio.Task[None]:
        """End one that was taken out or is not wanted any more."""
        if naming := self._naming.pop(warm.plan.name, None):
            naming.cancel()
        return self._maker.discard(warm, why)

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
        if self._making is not None and not self._making.done():
            self._making.cancel()
            await asyncio.wait([self._making])
        await self._maker.end()
        for task in self._watching:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)
