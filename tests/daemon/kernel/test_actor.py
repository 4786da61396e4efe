"""An actor over a fake launcher and fake channels: what it saves, when, and what it refuses."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kconnd.core.kernel.events import (
    Adopted,
    Answered,
    HeartbeatMissed,
    HeartbeatResumed,
    RestartRequested,
    StartRequested,
    Step,
    StopRequested,
)
from kconnd.core.kernel.lifecycle import Desired, Lifecycle, State
from kconnd.core.kernel.record import KernelRecord, Origin
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.kernel_files import KernelFiles
from kconnd.core.launch.plan import LaunchPlan
from kconnd.core.profile.model import Profile
from kconnd.daemon.catalog import CatalogEntry
from kconnd.daemon.kernel.actor import Actor
from kconnd.daemon.main import keep_going
from kconnd.errors import NoSuchKernelError, StateFileError
from kconnd.launchers.base import ExitStatus
from kconnd.system.files.private import take_lock, write_private
from kconnd.system.store import Store
from tests.conftest import wait_until as wait_for_it
from tests.daemon.kernel.fakes import FakeChannels, make_world
from tests.launchers.fake import NOBODY, FakeLauncher

WaitUntil = Callable[..., Awaitable[None]]
COMMAND = ("/bin/kernel", "{connection_file}")


class Stage:
    """A world around one actor, of which a test can take hold."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.launcher = FakeLauncher()
        self.may_answer = asyncio.Event()
        self.channels: list[FakeChannels] = []
        self.heartbeats: bool | None = True
        self.subshells: list[str] = []
        self.profile = Profile(name="lab", argv=COMMAND, transport="ipc")
        self.store = Store(folder / "s", Origin("m", "host", "fake"))
        self.runtime = folder / "r"
        self.world = make_world(
            folder, connect=self._connect, launcher=self.launcher, store=self.store, **options
        )
        self.actor = Actor(KernelRecord("lab"), self.world, self.source)

    def source(self) -> CatalogEntry:
        return CatalogEntry(self.profile)

    def _connect(self, connection: ConnectionInfo) -> FakeChannels:
        channels = FakeChannels(connection, self.may_answer, [], self.heartbeats, self.subshells)
        self.channels.append(channels)
        return self.channels[-1]

    @property
    def files(self) -> KernelFiles:
        return self.world.files("lab")

    @property
    def connection_file(self) -> Path:
        return Path(self.files.connection_file)

    def saved(self) -> dict[str, Any]:
        path = self.store.folder("lab") / "record.json"
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found

    def block_saving(self) -> Callable[[], None]:
        """Keep the record from being saved, until the returned function is called."""
        folder = self.store.folder("lab")
        aside = folder.rename(folder.with_name("aside"))
        folder.write_text("in the way")  # root can write nothing below it, either

        def unblock() -> None:
            folder.unlink()
            aside.rename(folder)

        return unblock

    async def reach(self, state: State) -> None:
        async with asyncio.timeout(10):
            await self.actor.until(lambda record: record.lifecycle.state is state)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with acting(Stage(tmp_path)) as found:
        yield found


@contextlib.asynccontextmanager
async def acting(found: Stage) -> AsyncIterator[Stage]:
    running = asyncio.create_task(found.actor.run())
    yield found
    found.actor.process.detach()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    found.store.close()


async def test_what_is_decided_is_saved_before_it_is_done(stage: Stage) -> None:
    await stage.world.slots.acquire()  # so that the launch has to wait
    await stage.actor.ask(StartRequested())
    saved = stage.saved()["lifecycle"]
    assert (saved["state"], saved["wanted"], saved["generation"]) == ("launching", "up", 1)
    assert stage.launcher.launched == []
    stage.world.slots.release()
    stage.may_answer.set()
    await stage.reach(State.RUNNING)
    assert stage.saved()["lifecycle"]["state"] == "running"
    assert stage.saved()["handle"]["kernel"] == [NOBODY + 1, 1]


async def test_what_has_come_together_is_saved_together(
    stage: Stage, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.actor.ask(StartRequested())
    await stage.reach(State.STARTING)
    saved, save = [], stage.store.save

    def note(record: KernelRecord) -> None:
        saved.append((record.lifecycle.state, record.lifecycle.unresponsive))
        save(record)

    monkeypatch.setattr(stage.store, "save", note)
    for event in (Answered(1), HeartbeatMissed(1)):
        stage.actor.enqueue(event)
    await wait_until(lambda: stage.actor.kernel.unresponsive, "both to be taken")
    assert saved == [(State.RUNNING, True)]
    assert stage.saved()["lifecycle"]["state"] == "running"
    saved.clear()
    stage.actor.enqueue(HeartbeatResumed(1))
    await stage.actor.ask(StopRequested())
    assert saved == [(State.STOPPING, False)], "what is to be done is saved before"


async def test_a_start_writes_its_record_twice(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    writes, save = [], stage.store.save

    def count(record: KernelRecord) -> None:
        writes.append(record)
        save(record)

    monkeypatch.setattr(stage.store, "save", count)
    stage.may_answer.set()
    await stage.actor.ask(StartRequested())
    await stage.reach(State.RUNNING)
    await wait_until(lambda: stage.actor.record.habits.beats, "the first heartbeat")
    decided, running = writes
    assert decided.lifecycle.state is State.LAUNCHING
    assert decided.profile == stage.profile.model_dump(mode="json", exclude_defaults=True)
    assert running.lifecycle.state is State.RUNNING
    assert running.handle is not None
    assert running.connection == stage.channels[0].connection
    assert running.facts.ready_after is not None
    assert stage.store.read("lab").lifecycle == replace(running.lifecycle, deadline=None)


async def test_a_launch_on_a_decision_that_cannot_be_saved_is_put_off(stage: Stage) -> None:
    stage.may_answer.set()
    await stage.actor.ask(StartRequested())
    await stage.reach(State.RUNNING)
    unblock = stage.block_saving()
    stage.launcher.end(1, ExitStatus(signal=9))
    await stage.reach(State.BACKOFF)
    stage.actor.enqueue(StartRequested())  # at once, and not after the delay
    await stage.actor.until(lambda record: record.lifecycle.generation == 2)
    await stage.reach(State.BACKOFF)
    assert "saving the decision about lab" in stage.actor.kernel.reason
    assert len(stage.launcher.launched) == 1
    unblock()
    stage.actor.enqueue(StartRequested())
    await stage.reach(State.RUNNING)
    assert len(stage.launcher.launched) == 2


async def test_a_process_that_had_not_answered_when_its_daemon_died_is_adopted_as_launched(
    stage: Stage, wait_until: WaitUntil
) -> None:
    stage.profile = Profile(name="lab", argv=COMMAND, transport="tcp", encryption="none")
    await stage.actor.ask(StartRequested())
    await stage.reach(State.STARTING)
    before = stage.actor.record
    assert (stage.saved()["lifecycle"]["state"], stage.saved()["handle"]) == ("launching", None)
    handle = stage.actor.process.handle
    assert handle is not None
    stage.launcher.there = handle
    async with taken_up(stage) as actor:
        stage.may_answer.set()
        await wait_until(lambda: actor.kernel.state is State.RUNNING, "its answer")
        assert actor.kernel.generation == 1
        assert actor.record.connection == before.connection == stage.channels[-1].connection
        assert actor.record.handle == before.handle
        assert actor.record.facts.warnings == before.facts.warnings != ()
        assert actor.record.facts.kernel_name == before.facts.kernel_name
        assert stage.saved()["lifecycle"]["state"] == "running"


async def test_what_is_asked_of_a_kernel_that_was_forgotten_is_refused(tmp_path: Path) -> None:
    """A stop waits for its turn; meanwhile the kernel may end and its profile be removed."""
    stage = Stage(tmp_path)
    actor = stage.actor
    task = asyncio.create_task(actor.run())
    await asyncio.sleep(0)  # it has begun, and waits for an event
    asked = asyncio.create_task(actor.ask(StopRequested()))
    await asyncio.sleep(0)  # the request is in the queue, and not taken
    task.cancel()
    async with asyncio.timeout(10):
        for request in (asked, actor.ask(StopRequested())):
            with pytest.raises(NoSuchKernelError, match="there is no kernel lab any more") as found:
                await request
            assert "kconnd-ctl list" in found.value.hint
    with pytest.raises(asyncio.CancelledError):
        await task
    stage.store.close()


async def test_a_launch_that_waits_for_its_turn_can_be_stopped(stage: Stage) -> None:
    await stage.world.slots.acquire()
    await stage.actor.ask(StartRequested())
    await stage.actor.ask(StopRequested())
    await stage.reach(State.STOPPED)
    stage.world.slots.release()
    assert stage.launcher.launched == []
    await stage.actor.ask(StartRequested())  # and its turn is not lost to those after it
    stage.may_answer.set()
    await stage.reach(State.RUNNING)


async def test_ready_waits_for_the_answer_and_the_next_launch_for_a_turn(stage: Stage) -> None:
    await stage.actor.ask(StartRequested())
    await stage.reach(State.STARTING)
    assert stage.world.slots.locked()
    stage.may_answer.set()
    await stage.reach(State.RUNNING)
    async with asyncio.timeout(10):
        await stage.world.slots.acquire()


async def test_a_request_that_cannot_be_saved_is_refused_and_changes_nothing(
    stage: Stage, wait_until: WaitUntil
) -> None:
    stage.may_answer.set()
    await stage.actor.ask(StartRequested())
    await stage.reach(State.RUNNING)
    unblock = stage.block_saving()
    with pytest.raises(StateFileError, match="saving the decision about lab"):
        await stage.actor.ask(RestartRequested())
    stage.actor.enqueue(HeartbeatMissed(1))
    await wait_until(lambda: stage.actor.unrecorded, "what could not be saved")
    await stage.actor.ask(StartRequested())  # what is so already needs nothing saved
    assert stage.actor.kernel.state is State.RUNNING
    assert stage.actor.kernel.desired is Desired.UP
    unblock()
    stage.launcher.end(1, ExitStatus(signal=9))
    await stage.reach(State.BACKOFF)
    await wait_until(lambda: stage.saved()["lifecycle"]["state"] != "running", "the record")


async def test_a_stop_goes_by_message_first_and_by_force_in_the_end(stage: Stage) -> None:
    stage.profile = Profile(name="lab", argv=COMMAND, transport="ipc", stop_timeout=0.1)
    stage.launcher.ignores = {Step.TERMINATE}
    stage.may_answer.set()
    await stage.actor.ask(StartRequested())
    await stage.reach(State.RUNNING)
    await stage.actor.ask(StopRequested(busy=False))
    await stage.reach(State.STOPPED)
    assert stage.channels[0].asked == ["shell", "shutdown_request"]
    assert stage.actor.record.last_exit is not None
    assert stage.actor.record.last_exit.signal == 9
    assert stage.channels[0].closed
    assert not list(stage.runtime.glob("kernel-*"))


async def test_an_end_right_on_an_interrupt_is_put_down_to_it(stage: Stage) -> None:
    await run_and_interrupt(stage)
    stage.launcher.end(1, ExitStatus(code=0))
    await stage.reach(State.BACKOFF)
    assert stage.actor.kernel.reason == "ended by the interrupt (exited with code 0)"


async def test_an_exit_in_a_cell_after_an_interrupt_is_its_users_wish(stage: Stage) -> None:
    channels = await run_and_interrupt(stage)
    channels.say("cell", "idle")
    channels.say("exit", "busy")
    stage.launcher.end(1, ExitStatus(code=0))
    await stage.reach(State.STOPPED)
    assert stage.actor.kernel.reason == "exited with code 0"


@pytest.mark.parametrize("asked", [StopRequested(busy=True), RestartRequested(busy=True)])
async def test_the_end_of_a_busy_kernel_is_put_down_to_its_stop(
    stage: Stage, asked: StopRequested | RestartRequested, wait_until: WaitUntil
) -> None:
    await run_and_interrupt(stage)
    await stage.actor.ask(asked)
    await wait_until(lambda: stage.launcher.signals == [signal.SIGINT] * 2, "the stop's interrupt")
    stage.launcher.end(1, ExitStatus(code=0))
    await wait_until(lambda: stage.actor.record.last_exit, "its end")
    assert stage.actor.record.last_exit is not None
    assert stage.actor.record.last_exit.reason == "exited with code 0"


async def run_and_interrupt(stage: Stage) -> FakeChannels:
    """Interrupt a cell."""
    stage.may_answer.set()
    await stage.actor.ask(StartRequested())
    await stage.reach(State.RUNNING)
    channels = stage.channels[0]
    await wait_for_it(lambda: channels.seen, "it to be listened to")
    channels.say("cell", "busy")
    await asyncio.sleep(0.001)  # for the clock
    await stage.actor.process.interrupt()
    await asyncio.sleep(0.001)
    return channels


async def test_a_restart_keeps_the_key_and_a_start_does_not(stage: Stage) -> None:
    stage.may_answer.set()
    await stage.actor.ask(StartRequested())
    await stage.reach(State.RUNNING)
    await stage.actor.ask(RestartRequested(busy=False))
    stage.launcher.end(1, ExitStatus(code=0))
    await stage.actor.until(lambda record: record.lifecycle.generation == 2)
    await stage.reach(State.RUNNING)
    await stage.actor.ask(StopRequested(busy=False))
    stage.launcher.end(2, ExitStatus(code=0))
    await stage.reach(State.STOPPED)
    await stage.actor.ask(StartRequested())
    await stage.reach(State.RUNNING)
    first, second, third = (one.connection.key for one in stage.channels)
    assert first == second != third


async def test_a_launch_that_hangs_is_given_up_and_its_turn_with_it(tmp_path: Path) -> None:
    async with acting(Stage(tmp_path, launch_limit=0.05)) as stage:
        stage.launcher.hangs = True
        await stage.actor.ask(StartRequested())
        await stage.reach(State.FAILED)
        assert "no process within 0.05 s" in stage.actor.kernel.reason
        assert not stage.world.slots.locked()


async def test_a_fault_of_any_kind_in_a_launch_is_a_launch_that_failed(stage: Stage) -> None:
    stage.profile = stage.profile.model_copy(update={"argv": ()})  # which no profile has
    await stage.actor.ask(StartRequested())
    await stage.reach(State.FAILED)
    assert not stage.world.slots.locked()


async def test_a_home_that_is_nobodys_is_told(stage: Stage) -> None:
    stage.profile = stage.profile.model_copy(update={"cwd": "~nobody-of-this-name/x"})
    await stage.actor.ask(StartRequested())
    await stage.reach(State.FAILED)
    assert "its cwd ~nobody-of-this-name/x: there is no such user" in stage.actor.kernel.reason


async def test_a_process_that_is_there_already_is_taken_up(stage: Stage) -> None:
    handle = await stage.launcher.launch(plan_of(stage))
    stage.launcher.there = replace(handle, generation=5)
    facts = stage.runtime / "live" / "lab.shim.json"
    facts.touch()
    os.utime(facts, (5000, 5000))
    stage.may_answer.set()
    await stage.actor.ask(StartRequested())
    await stage.reach(State.RUNNING)
    assert stage.actor.kernel.generation == 5
    assert stage.actor.record.facts.started_at == 5000, "not when its process was forked"
    assert len(stage.launcher.launched) == 1
    assert "found again" in stage.actor.kernel.reason


def plan_of(stage: Stage) -> LaunchPlan:
    return LaunchPlan("lab", 5, COMMAND, {}, "/", stage.files)


@pytest.mark.parametrize("version", ["this", "older"])
async def test_nothing_of_a_process_that_is_still_there_is_removed(
    stage: Stage, version: str
) -> None:
    older, facts = (stage.runtime / "live" / f"lab.{kind}" for kind in ("lock", "shim.json"))
    facts.write_text("{}")
    stage.store.folder("lab")
    lock = older if version == "older" else Path(stage.files.lock)
    held = take_lock(lock, "a shim")
    stage.actor.process.clean_up()
    assert facts.exists()
    os.close(held)
    stage.actor.process.clean_up()
    assert not facts.exists()
    assert not lock.exists()


async def test_nothing_of_a_process_that_is_still_there_is_replaced_by_a_start(
    stage: Stage,
) -> None:
    stage.store.folder("lab")
    held = take_lock(Path(stage.files.lock), "a shim")
    stage.connection_file.write_text("its own")
    await stage.actor.ask(StartRequested())
    await stage.reach(State.FAILED)
    assert "an earlier process of the kernel holds" in stage.actor.kernel.reason
    assert stage.connection_file.read_text() == "its own"
    assert stage.launcher.launched == []
    os.close(held)
    stage.may_answer.set()
    await stage.actor.ask(StartRequested())
    await stage.reach(State.RUNNING)


async def test_a_kernel_is_looked_for_by_the_lock_that_is_held(stage: Stage) -> None:
    stage.store.folder("lab")
    older = stage.runtime / "live" / "lab.lock"
    os.close(take_lock(older, "a shim of the version before, which has ended"))
    await stage.actor.revive(forgotten=True)
    assert stage.launcher.looked_at == stage.files.lock
    older.touch()
    held = take_lock(older, "a shim of the version before")
    await stage.actor.revive(forgotten=True)
    assert stage.launcher.looked_at == str(older)
    os.close(held)


async def test_an_adopted_kernel_that_answers_again_is_responsive(
    stage: Stage, wait_until: WaitUntil
) -> None:
    handle = await stage.launcher.launch(plan_of(stage))
    silent = Lifecycle(State.RUNNING, Desired.UP, generation=5, unresponsive=True, proved=True)
    stage.actor.record = replace(
        stage.actor.record, lifecycle=silent, handle=handle.to_json(), connection=a_connection()
    )
    stage.actor.process.connection = stage.actor.record.connection
    await stage.actor.revive()
    await stage.reach(State.RUNNING)
    assert stage.actor.kernel.unresponsive
    stage.may_answer.set()
    await wait_until(lambda: not stage.actor.kernel.unresponsive, "the all-clear")


async def test_taking_up_writes_nothing_that_is_there_already(
    stage: Stage, wait_until: WaitUntil
) -> None:
    stage.may_answer.set()
    await stage.actor.ask(StartRequested())
    await stage.reach(State.RUNNING)
    await wait_until(lambda: stage.actor.record.habits.beats, "its heartbeat")
    stage.actor.enqueue(Adopted(1))  # what was learned is saved with the next event
    await wait_until(lambda: stage.saved()["habits"]["beats"], "the record")
    files = [stage.store.folder("lab") / "record.json", stage.connection_file]
    before = [path.stat().st_mtime_ns for path in files]
    async with taken_up(stage) as actor:
        await wait_until(lambda: sorted(stage.channels[-1].asked) == ["control", "shell"], "asking")
        await wait_until(lambda: actor.process.watch.execution_state == "idle", "the answer")
        assert [path.stat().st_mtime_ns for path in files] == before


@pytest.mark.parametrize("content", [None, b"{}"])
async def test_taking_up_mends_the_connection_file(
    stage: Stage, wait_until: WaitUntil, content: bytes | None
) -> None:
    stage.may_answer.set()
    await stage.actor.ask(StartRequested())
    await stage.reach(State.RUNNING)
    right = stage.connection_file.read_bytes()
    stage.connection_file.unlink()
    if content is not None:
        write_private(stage.connection_file, content)
    async with taken_up(stage) as actor:
        assert stage.connection_file.read_bytes() == right
        await wait_until(lambda: actor.process.watch.execution_state == "idle", "its answer")


@contextlib.asynccontextmanager
async def taken_up(stage: Stage) -> AsyncIterator[Actor]:
    """Have the kernel taken up by what another daemon reads of it."""
    stage.actor.process.detach()
    stage.actor = Actor(stage.store.read("lab"), stage.world, stage.source)
    async with acting(stage):
        await stage.actor.revive()
        yield stage.actor


async def test_what_could_not_be_saved_is_saved_with_the_next_event(
    stage: Stage, wait_until: WaitUntil
) -> None:
    """Also where that event changes nothing that is saved."""
    stage.profile = Profile(
        name="lab",
        argv=COMMAND,
        transport="ipc",
        restart={"backoff": "1min", "backoff_max": "1min"},
    )
    stage.may_answer.set()
    await stage.actor.ask(StartRequested())
    await stage.reach(State.RUNNING)
    unblock = stage.block_saving()
    stage.launcher.end(1, ExitStatus(signal=9))
    await stage.reach(State.BACKOFF)
    unblock()
    assert stage.saved()["lifecycle"]["state"] == "running"
    stage.actor.enqueue(Adopted(1))
    await wait_until(lambda: stage.saved()["lifecycle"]["state"] == "backoff", "the record")


def a_connection() -> ConnectionInfo:
    return ConnectionInfo("ipc", "/x", (1, 2, 3, 4, 5), key="k", kernel_name="fake")


async def test_a_work_of_the_daemons_begins_again_after_a_fault() -> None:
    turns: list[int] = []

    async def work() -> None:
        turns.append(1)
        if len(turns) < 3:
            raise RuntimeError("the watcher is out of order")

    await keep_going(work, pause=0)
    assert len(turns) == 3
