"""Starts warm kernels and terminates them; a probe starts its kernels in the same way.

Before the launch of each such kernel, a link with the kernel's name is created in the state folder.
If the daemon dies at a later step, the next daemon finds the kernel by this link and terminates it
(`kconnd.daemon.warm.leftovers`). A launch that has begun is never abandoned. If the launch is
cancelled, the maker waits for the process, terminates the process, and then removes the files.
"""

import asyncio
import contextlib
import logging
import secrets
import signal
from collections.abc import Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any

from kconnd.core.kernel.events import Launch, Step, WireRefused
from kconnd.core.kernel.view import describe_exit
from kconnd.core.launch.capabilities import Software
from kconnd.core.launch.kernel_files import warm_name
from kconnd.core.launch.plan import LaunchPlan
from kconnd.core.launch.warm import with_shell_files
from kconnd.core.launch.wire import Attempts, Trial, choose_wire
from kconnd.core.profile.model import Profile
from kconnd.daemon.context import Channels, World
from kconnd.daemon.kernel.files import serialize
from kconnd.daemon.kernel.observing import Attempt, Observer, unknown_software
from kconnd.daemon.kernel.prepared import WarmKernel
from kconnd.daemon.kernel.questions import FIRST_ANSWER_RETRY_S, ask_until_answered
from kconnd.daemon.kernel.wiring import Wire, prepare_wire, release_on_failure, wire_settings
from kconnd.daemon.warm.reading import list_files, take_signatures
from kconnd.errors import StartFailedError
from kconnd.launchers.base import Handle
from kconnd.system.files.private import ensure_private_dir, write_private
from kconnd.system.launch_files import make_plan, read_launch_files
from kconnd.system.process.priority import LowPriority

END_TIMEOUT_S = 5.0  # the limit for all pending terminations when the daemon exits

log = logging.getLogger("kconnd")


class WireTrialError(StartFailedError):
    """A warm kernel does not support the wire that its start has tried."""


class Maker:
    """Starts and terminates warm kernels.

    Parameters
    ----------
    world : World
        The objects that all kernels share.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._folder = world.store.warm
        self._ending: set[asyncio.Task[None]] = set()

    async def plan(
        self, profile: Profile, attempts: Attempts = Attempts.LIKELY
    ) -> tuple[LaunchPlan, Wire, Software]:
        """Plan a warm kernel, and reserve its ports."""
        files = await read_launch_files(
            self._world, profile, self._world.program_hints(profile=profile.name)
        )
        name = warm_name(profile.name, secrets.token_hex(4))
        launch = Launch(1, new_key=True, new_ports=True)
        kernel_files = self._world.warm_files(name)
        with release_on_failure(self._world, name):
            wire = await prepare_wire(self._world, name, profile, files, launch, attempts=attempts)
            plan = make_plan(self._world, kernel_files, 1, profile, files, wire.connection)
        return plan, wire, files.software

    async def make(self, profile: Profile) -> WarmKernel:
        """Start a warm kernel, and wait for its first answer.

        Nobody waits for the kernel, so all wires are tried that the kernel is not known to support.
        If a trial fails, the kernel is started again on plain tcp. After a start on plain tcp that
        was necessary to measure the duration of a start, the kernel is started again with a trial.

        Raises
        ------
        KconndError, OSError, TimeoutError
            If the kernel cannot be started. The files of the failed kernel are removed: at once if
            there is no process, else after the exit of the process.
        """
        warm, software = await self._make_with_fallback(profile)
        for _ in Trial:
            if not self._is_worth_a_trial(profile, warm, software):
                break
            self.discard(warm, "it may support a private wire")
            warm, software = await self._make_with_fallback(profile)
        return warm

    def _is_worth_a_trial(self, profile: Profile, warm: WarmKernel, software: Software) -> bool:
        """Return whether a kernel on plain tcp would be started with a trial if started again."""
        connection, facts = warm.wire.connection, self._world.capabilities.facts(software)
        is_plain = connection.transport == "tcp" and connection.curve is None
        return is_plain and choose_wire(wire_settings(profile), facts).trial is not None

    async def _make_with_fallback(self, profile: Profile) -> tuple[WarmKernel, Software]:
        observer = Observer(profile.name, self._world, unknown_software)
        try:
            return await self._make(profile, observer, Attempts.ALL)
        except WireTrialError as error:
            log.debug("%s: starting a warm kernel: %s; trying plain tcp", profile.name, error)
            return await self._make(profile, observer, Attempts.KNOWN)

    async def _make(
        self, profile: Profile, observer: Observer, attempts: Attempts
    ) -> tuple[WarmKernel, Software]:
        plan, wire, software = await self.plan(profile, attempts)
        since = self._world.wall_clock()
        began_at = self._world.clock()
        handle = await self.launch(plan, wire)
        is_fallback = attempts is Attempts.KNOWN
        attempt = Attempt(software, wire.trial, wire.trial_limit_s, is_fallback)
        observer.begin(attempt, wire.connection, began_at)
        channels: Channels | None = None
        try:
            channels = self._world.connect(wire.connection)
            async with asyncio.timeout(profile.startup_timeout), LowPriority(handle.kernel):
                answer = await self._first_answer(channels, handle, observer)
                observer.note_answer(round(self._world.clock() - began_at, 4))
                reading = await list_files(channels, plan, handle, answer, software.places)
                if profile.shell == "login":
                    reading = with_shell_files(reading, plan)
                signatures = take_signatures(reading, plan.cwd, since)
        except BaseException:
            if channels is not None:
                channels.close()
            self.end_kernel(plan, wire, handle)
            raise
        return WarmKernel(plan, handle, wire, channels, answer, signatures), software

    async def _first_answer(
        self, channels: Channels, handle: Handle, observer: Observer
    ) -> Mapping[str, Any]:
        """Wait until a kernel answers; fail as soon as it exits or is seen to refuse its wire."""
        refused: asyncio.Future[WireRefused] = asyncio.get_running_loop().create_future()
        asking = asyncio.ensure_future(ask_until_answered(channels, FIRST_ANSWER_RETRY_S))
        exiting = asyncio.ensure_future(self._world.launcher.wait(handle))
        watching = asyncio.ensure_future(
            observer.watch(handle.shim, handle.generation, asking.done, refused.set_result)
        )
        ends: set[asyncio.Future[Any]] = {asking, exiting, refused}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                return asking.result()
            if refused.done():
                refusal = refused.result()
                raise _failure(refusal.reason, is_trial=refusal.may_fall_back)
            end = exiting.result()
            reason = describe_exit(end.code, end.signal)
            killed = end.oom or end.signal == signal.SIGKILL
            raise _failure(f"it {reason}", is_trial=observer.note_exit(reason, killed=killed))
        finally:
            for task in (asking, exiting, watching):
                task.cancel()

    async def launch(self, plan: LaunchPlan, wire: Wire) -> Handle:
        """Launch a kernel without a name; `end_kernel` terminates it.

        Raises
        ------
        KconndError, OSError
            If the launch fails. The files of the kernel are removed.
        """
        try:
            self._prepare_files(plan, wire)
        except BaseException:
            self.forget(plan.name)
            raise
        launching = asyncio.create_task(self._world.launcher.launch(plan))
        try:
            return await asyncio.shield(launching)
        except asyncio.CancelledError:
            self.spawn(self._end_when_launched(plan, wire, launching))
            raise
        except BaseException:
            self.forget(plan.name)
            raise

    def _prepare_files(self, plan: LaunchPlan, wire: Wire) -> None:
        files = self._world.warm_files(plan.name)
        first_folder = Path(files.first_folder)
        ensure_private_dir(self._folder)
        ensure_private_dir(first_folder)
        Path(files.folder).symlink_to(first_folder.name)
        write_private(Path(files.connection_file), serialize(wire.connection))

    # --- termination

    def discard(self, warm: WarmKernel, why: str) -> asyncio.Task[None]:
        """Terminate a warm kernel."""
        log.debug("%s: terminated: %s", warm.plan.name, why)
        warm.channels.close()
        return self.end_kernel(warm.plan, warm.wire, warm.handle)

    def end_kernel(self, plan: LaunchPlan, wire: Wire, handle: Handle) -> asyncio.Task[None]:
        """Terminate a launched kernel, and remove its files."""
        return self.spawn(self._end(plan, wire, handle))

    async def _end_when_launched(
        self, plan: LaunchPlan, wire: Wire, launching: asyncio.Task[Handle]
    ) -> None:
        try:
            handle = await launching
        except Exception:  # noqa: BLE001  # after any exception, there is no process
            self.forget(plan.name)
            return
        await self._end(plan, wire, handle)

    async def _end(self, plan: LaunchPlan, wire: Wire, handle: Handle) -> None:
        await self._world.launcher.stop(handle, Step.KILL)
        await self._world.launcher.wait(handle)
        connection = wire.connection
        self.forget(plan.name, (*connection.socket_paths(), *connection.stray_paths()))

    def forget(self, name: str, sockets: Iterable[str] = ()) -> None:
        """Remove the files of a warm kernel that has exited."""
        try:
            self._world.ledger.release(name)
            for socket in sockets:
                Path(socket).unlink(missing_ok=True)
            files = self._world.warm_files(name)
            for path in (*files.live, files.next_link, files.folder):
                Path(path).unlink(missing_ok=True)
            remove_folder(Path(files.first_folder))
        except OSError as error:
            log.warning("%s: removing its files: %s", name, error)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run the termination of a kernel in the background; `end` waits for it."""
        task = asyncio.get_running_loop().create_task(_log_fault(work))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task

    async def end(self) -> None:
        """Wait for the exit of all kernels that are being terminated, at most `END_TIMEOUT_S`."""
        if self._ending:
            await asyncio.wait(self._ending, timeout=END_TIMEOUT_S)


def _failure(reason: str, *, is_trial: bool) -> StartFailedError:
    return WireTrialError(reason) if is_trial else StartFailedError(reason)


async def _log_fault(work: Coroutine[Any, Any, None]) -> None:
    """Run a task's work and log an exception, because nobody awaits the task."""
    try:
        await work
    except Exception:
        log.exception("terminating a warm kernel")


def remove_folder(folder: Path) -> None:
    """Remove a folder and the files in it."""
    for path in folder.glob("*"):
        path.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        folder.rmdir()
