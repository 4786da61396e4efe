"""The pool of warm kernels (``warm: N``), which also prepares the zygotes of forked kernels.

A warm kernel is an ordinary kernel process with a shim and an empty namespace, but without a name.
A start of the kernel's profile, or of an instance of this profile, uses the warm kernel instead of
a new process if both would be identical (`same_start`). At the hand-over, the kernel gets its name
and the path of its connection file. Before the hand-over, nobody has worked in the kernel. The
daemon therefore terminates its warm kernels when it exits, and the next daemon terminates the warm
kernels of a killed daemon. Warm kernels are started one at a time, when no user waits for a start
and enough memory is free.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from kconnd.core.launch.naming import can_be_named
from kconnd.core.launch.plan import LaunchPlan
from kconnd.core.launch.session import material_of
from kconnd.core.launch.warm import in_place_of, same_start
from kconnd.core.profile.model import Profile
from kconnd.daemon.context import World
from kconnd.daemon.kernel.prepared import WarmKernel
from kconnd.daemon.warm.handover import confirm_name, hand_over, resend_name, send_name
from kconnd.daemon.warm.leftovers import sweep
from kconnd.daemon.warm.maker import END_TIMEOUT_S, Maker
from kconnd.daemon.warm.reading import language_of
from kconnd.errors import KconndError, RefusedError, StartFailedError
from kconnd.launchers.base import Handle
from kconnd.system.hung_calls import BeginStep, StuckError
from kconnd.system.launch_files import (
    LaunchFiles,
    check_descriptors,
    make_plan,
    read_launch_files,
)
from kconnd.system.process.memory import available_memory
from kconnd.system.process.resource_usage import count_descriptors, tree_memory

# The time between two checks whether warm kernels are still identical to new kernels.
CHECK_INTERVAL_S = 10.0
MIN_RETRY_DELAY_S = 0.1  # while a user waits or memory is short; doubled each time
MIN_FREE_BYTES = 256 << 20
LAUNCH_RETRY_DELAYS_S = (0.0, 0.1, 0.3, 1.0)  # before each retry of a launch that a quota refused
MAX_RETRY_DELAY_S = 60.0  # the longest delay after a failed start

log = logging.getLogger("kconnd")


class Pool:
    """The warm kernels of a daemon.

    Parameters
    ----------
    world : World
        The objects that all kernels share.
    available : callable
        A function that returns the available memory in bytes.
    """

    def __init__(self, world: World, available: Callable[[], int] = available_memory) -> None:
        self._world, self._available = world, available
        self._ready: dict[str, list[WarmKernel]] = {}
        self._failures: dict[str, int] = {}
        self._retry: dict[str, float] = {}
        self._reasons: dict[str, str] = {}  # why each profile's last attempt failed
        self._delays: dict[str, float] = {}
        self._making: asyncio.Task[WarmKernel] | None = None
        self._prepared: set[str] = set()
        self._naming: dict[str, asyncio.Task[bool]] = {}
        self._watching: set[asyncio.Task[None]] = set()
        self._maker = Maker(world)
        self._due = asyncio.Event()

    @property
    def ready(self) -> int:
        """The number of warm kernels that can be handed over."""
        return sum(map(len, self._ready.values()))

    def look_again(self) -> None:
        """Check the pool now, because profiles have changed or a kernel is missing."""
        self._delays.clear()
        self._due.set()

    def has(self, profile: Profile) -> bool:
        """Return whether a warm kernel of a profile is ready."""
        return bool(self._ready.get(profile.name))

    # --- handing over

    async def take(
        self, name: str, generation: int, profile: Profile, files: LaunchFiles
    ) -> tuple[WarmKernel, LaunchPlan] | None:
        """Take a warm kernel that is identical to the kernel to launch, and send the name to it.

        Returns
        -------
        tuple, optional
            The warm kernel, and the plan of the launch that it makes unnecessary; None if no warm
            kernel is identical to the kernel to launch.
        """
        ready = self._ready.get(profile.name, [])
        for warm in list(ready):
            connection, kernel_files = warm.wire.connection, self._world.files(name)
            plan = make_plan(self._world, kernel_files, generation, profile, files, connection)
            language = language_of(warm.answer)
            if warm not in ready or not _can_serve(warm.plan, plan, files, language):
                continue
            ready.remove(warm)
            self._worked(profile.name)
            self.look_again()
            if why := await self._changed(warm):
                self.discard(warm, why)
                continue
            naming = send_name(
                self._world, warm.channels, language, warm.plan.name, plan.name, files.notebook
            )
            self._naming[warm.plan.name] = asyncio.create_task(naming)
            await asyncio.sleep(0)  # the message is sent before the hand-over continues
            return warm, plan
        return None

    def hand_over(self, warm: WarmKernel, plan: LaunchPlan) -> Handle:
        """Move the files of a taken kernel; see `kconnd.daemon.warm.handover`.

        The hand-over does not wait until the kernel confirms its name. The kernel handles messages
        in order, so it handles the message with its name before any request of a client.
        """
        old = warm.plan.name
        handle = hand_over(self._world, warm, plan)
        self._spawn(confirm_name(self._world, self._naming.pop(old), old, plan.name))
        self._spawn(self._remove_link_after(handle, old))
        return handle

    async def _remove_link_after(self, handle: Handle, old: str) -> None:
        """Remove the link of a handed-over kernel after the exit of its shim."""
        await self._world.launcher.wait(handle)
        self._maker.forget(old)

    # --- keeping kernels ready

    async def keep_for_ever(
        self, profiles: Callable[[], Iterable[Profile]], waiting: Callable[[], bool]
    ) -> None:
        """Keep as many warm kernels ready as the profiles require.

        Parameters
        ----------
        profiles : callable
            A function that returns the present profiles.
        waiting : callable
            A function that returns whether a user waits for a start.
        """
        while True:
            self._due.clear()
            pause = await self._look(list(profiles()), waiting)
            await asyncio.sleep(MIN_RETRY_DELAY_S)  # a user's next start has priority
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._due.wait()

    async def _look(self, profiles: list[Profile], waiting: Callable[[], bool]) -> float:
        """Check the warm kernels of all profiles; return the seconds until the next check."""
        pause = CHECK_INTERVAL_S
        self._make_room()
        for profile in profiles:
            with contextlib.suppress(KconndError, OSError):  # a start reports the error
                await self._prepare(profile)
            if profile.warm or profile.name in self._ready:
                pause = min(pause, await self._keep(profile, waiting))
        for name in set(self._ready) - {profile.name for profile in profiles}:
            for warm in self._ready.pop(name):
                self.discard(warm, "its profile was removed")
        return pause

    def _make_room(self) -> None:
        """Terminate warm kernels until enough memory is free."""
        lacking = MIN_FREE_BYTES - self._available()
        for ready in self._ready.values():
            while ready and lacking > 0:
                warm = ready.pop()
                lacking -= tree_memory(warm.handle.shim)
                self.discard(warm, "memory has run short")

    async def _prepare(self, profile: Profile) -> None:
        """Start the zygote from which kernels of a profile are forked, if the profile needs one."""
        forked = profile.launcher == "fork" or profile.preload
        if not forked or profile.start == "manual":
            return
        session = self._world.sessions.find(profile.name)
        key = profile.model_dump_json() + material_of(session)
        if key not in self._prepared:
            self._prepared.add(key)
            plan, _, _ = await self._maker.plan(profile)
            self._world.ledger.release(plan.name)
            await self._world.launcher.prepare(plan)

    async def _keep(self, profile: Profile, waiting: Callable[[], bool]) -> float:
        """Terminate the outdated warm kernels of a profile, and start the missing ones.

        Returns
        -------
        float
            The seconds until the next check. While no kernel can be started, this time doubles with
            each check.
        """
        name = profile.name
        ready = self._ready.setdefault(name, [])
        for warm in list(ready):
            why = await self._stale(profile, warm)
            if warm not in ready:  # the kernel was taken or has exited during the check
                continue
            if why or len(ready) > profile.warm:
                ready.remove(warm)
                self.discard(warm, why or "the profile asks for fewer")
        while len(ready) < profile.warm:
            delay = self._retry.get(name, 0.0) - self._world.clock()
            if delay > 0:
                return delay
            if waiting() or not self._has_room(ready):
                self._delays[name] = delay = min(
                    CHECK_INTERVAL_S, 2 * self._delays.get(name, MIN_RETRY_DELAY_S)
                )
                return delay
            await self._add(profile)
        self._delays.pop(name, None)
        return CHECK_INTERVAL_S

    async def _stale(self, profile: Profile, warm: WarmKernel) -> str:
        """Return why a warm kernel differs from a new kernel; ``""`` if they are identical."""
        try:
            hints = self._world.program_hints(profile=profile.name)
            files = await read_launch_files(self._world, profile, hints)
            connection = warm.wire.connection
            kernel_files = self._world.files(profile.name)
            now = make_plan(self._world, kernel_files, 1, profile, files, connection)
        except (KconndError, OSError):
            return "its profile can no longer be started"
        if not same_start(now, warm.plan):
            return "its profile has changed"
        return await self._changed(warm)

    async def _changed(self, warm: WarmKernel) -> str:
        """Describe which file has changed since a kernel read it; ``""`` if no file has changed."""

        def compare(begin: BeginStep) -> str:
            begin(f"checking the files that {warm.plan.name} has read")
            return warm.signatures.first_changed()

        try:
            changed = await self._world.paths.run(compare)
        except StuckError as error:
            return str(error)
        return f"{changed} has changed" if changed else ""

    def _has_room(self, ready: list[WarmKernel]) -> bool:
        similar_bytes = max(
            (tree_memory(warm.handle.shim) for warm in ready[-1:]), default=MIN_FREE_BYTES // 2
        )
        return self._available() > MIN_FREE_BYTES + 2 * similar_bytes

    async def _add(self, profile: Profile) -> None:
        """Start a warm kernel; add it to the pool after its first answer."""
        name = profile.name
        making = self._making = asyncio.create_task(self._maker.make(profile))
        try:
            check_descriptors(count_descriptors())
            await asyncio.wait([making])
            if not making.cancelled():  # `_release` may have cancelled this start
                self._keep_ready(name, making.result())
        except (KconndError, OSError, TimeoutError) as error:
            self._failed(name, str(error) or "it did not answer")
        finally:
            making.cancel()

    def _keep_ready(self, name: str, warm: WarmKernel) -> None:
        self._ready[name].append(warm)
        self._spawn(self._watch_exit(name, warm, self._world.clock()))

    def _failed(self, name: str, why: str) -> None:
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        pause = min(MAX_RETRY_DELAY_S, 2.0**failures)
        self._retry[name] = self._world.clock() + pause
        level = logging.DEBUG if self._reasons.get(name) == why else logging.WARNING
        self._reasons[name] = why
        log.log(level, "%s: starting a warm kernel: %s; next try in %g s", name, why, pause)

    def _worked(self, name: str) -> None:
        """Forget the failed starts of a profile's warm kernels: one was used or ran for long."""
        for by_name in (self._failures, self._retry, self._reasons):
            by_name.pop(name, None)

    async def _watch_exit(self, name: str, warm: WarmKernel, since: float) -> None:
        await self._world.launcher.wait(warm.handle)
        if warm not in self._ready.get(name, ()):
            return
        self._ready[name].remove(warm)
        warm.channels.close()
        self._maker.forget(warm.plan.name, warm.wire.connection.socket_paths())
        self.look_again()
        if self._world.clock() - since < MAX_RETRY_DELAY_S:
            self._failed(name, "its process ended")
        else:
            self._worked(name)

    # --- termination

    async def launch_with_room(self, plan: LaunchPlan, refusal: StartFailedError) -> Handle:
        """Terminate a warm kernel, then retry a launch that a quota has refused.

        Raises
        ------
        StartFailedError
            If there is no warm kernel to terminate, or if the launch fails again.
        """
        if not await self._release():
            raise refusal
        for pause in LAUNCH_RETRY_DELAYS_S:
            # For a short time after the end of a unit, the service manager still counts it.
            await asyncio.sleep(pause)
            try:
                return await self._world.launcher.launch(plan)
            except StartFailedError as error:
                if not isinstance(error.__cause__, RefusedError):
                    raise
                refusal = error
        raise refusal

    async def _release(self) -> bool:
        """Terminate a warm kernel that is ready or starting; return False if there is none."""
        why = "another kernel needs its place"
        for ready in self._ready.values():
            if ready:
                await asyncio.wait([self.discard(ready.pop(), why)], timeout=END_TIMEOUT_S)
                return True
        if self._making is None or self._making.done():
            return False
        self._making.cancel()
        await asyncio.wait([self._making])
        await self._maker.end()
        return True

    def discard(self, warm: WarmKernel, why: str) -> asyncio.Task[None]:
        """Terminate a warm kernel."""
        if naming := self._naming.pop(warm.plan.name, None):
            naming.cancel()
        return self._maker.discard(warm, why)

    async def sweep(self) -> None:
        """Terminate the warm kernels of a killed daemon, and complete its hand-overs."""
        for kernel in await sweep(self._world, self._maker):
            if kernel.handle is not None:
                self._spawn(self._remove_link_after(kernel.handle, kernel.old))
            if not kernel.knows_name:
                self._spawn(resend_name(self._world, kernel.old, kernel.name))

    async def end(self) -> None:
        """Terminate all warm kernels that were not handed over."""
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


def _can_serve(warm: LaunchPlan, plan: LaunchPlan, files: LaunchFiles, language: str) -> bool:
    """Return whether a warm kernel can become like the kernel of a plan."""
    notebook = files.notebook
    if notebook.folder and not (files.is_plain and can_be_named(language)):
        return False
    return same_start(in_place_of(plan, warm, notebook), warm)
