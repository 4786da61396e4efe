"""What is read of kernels for those who look: once for all who ask, and of the right process."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from kconnd.core.kernel.activity import Activity
from kconnd.core.kernel.events import StartRequested
from kconnd.core.kernel.lifecycle import State
from kconnd.daemon.kernel.readings import Readings
from kconnd.launchers.base import ExitStatus
from kconnd.system.process.processes import ProcessId
from tests.daemon.kernel.test_actor import Stage, acting


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Give a kernel that runs."""
    async with acting(Stage(tmp_path)) as found:
        found.may_answer.set()
        await found.actor.ask(StartRequested())
        await found.reach(State.RUNNING)
        yield found


async def test_what_was_read_is_shown_while_it_is_fresh(stage: Stage) -> None:
    actor, readings = stage.actor, Readings(stage.world)
    assert not readings.is_fresh(actor)
    assert readings.sight(actor, "current").memory is None
    await readings.refresh([actor])
    assert readings.is_fresh(actor)
    reading = readings.latest(actor)
    await readings.refresh([actor])
    assert readings.latest(actor) is reading
    assert readings.sight(actor, "current").memory is not None
    assert readings.sight(actor, "current", quick=True).memory is None


async def test_what_was_read_of_a_kernel_that_was_starting_is_not_shown_once_it_runs(
    tmp_path: Path,
) -> None:
    async with acting(Stage(tmp_path)) as stage:
        readings = Readings(stage.world)
        await stage.actor.ask(StartRequested())
        await stage.reach(State.STARTING)
        await readings.refresh([stage.actor])
        assert readings.is_fresh(stage.actor)
        stage.may_answer.set()
        await stage.reach(State.RUNNING)
        assert not readings.is_fresh(stage.actor)


async def test_what_is_being_read_while_a_kernel_answers_is_not_shown(tmp_path: Path) -> None:
    async with acting(Stage(tmp_path)) as stage:
        readings = Readings(stage.world)
        await stage.actor.ask(StartRequested())
        await stage.reach(State.STARTING)
        reading = asyncio.create_task(readings.refresh([stage.actor]))
        for _ in range(2):  # it begins, and has what it is about
            await asyncio.sleep(0)
        stage.actor.process.watch.activity = Activity(0.0, history_complete=True)
        await reading
        assert not readings.is_fresh(stage.actor)


async def test_of_those_who_ask_at_once_one_reads_for_all(stage: Stage) -> None:
    actor, readings = stage.actor, Readings(stage.world)
    first = asyncio.create_task(readings.refresh([actor]))
    await asyncio.sleep(0)
    reading = readings._pending[actor]
    others = [asyncio.create_task(readings.refresh([actor])) for _ in range(5)]
    await asyncio.sleep(0)
    assert readings._pending[actor] is reading
    first.cancel()  # who goes away takes it from nobody
    await asyncio.gather(*others)
    assert actor not in readings._pending
    assert readings.is_fresh(actor)


async def test_what_was_read_of_the_process_before_is_not_shown(stage: Stage) -> None:
    actor, readings = stage.actor, Readings(stage.world)
    await readings.refresh([actor])
    assert actor.process.handle is not None
    actor.process.handle = replace(actor.process.handle, shim=ProcessId(2, 2))
    assert not readings.is_fresh(actor)
    assert readings.sight(actor, "current").memory is None
    actor.process.handle = None
    assert readings.is_fresh(actor), "there is nothing to be read"
    assert readings.sight(actor, "current").memory is None


async def test_why_no_client_can_attach_is_read_too(stage: Stage) -> None:
    actor, readings = stage.actor, Readings(stage.world)
    stage.connection_file.unlink()
    await readings.refresh([actor])
    assert "its connection file cannot be read" in actor.process.fault
    assert readings.sight(actor, "current").unreachable == actor.process.fault


async def test_why_a_kernel_is_kept_alive_is_shown_for_that_process_alone(stage: Stage) -> None:
    actor, readings = stage.actor, Readings(stage.world)
    readings.note_kept_alive(actor, "it works")
    assert readings.sight(actor, "current").kept_alive == "it works"
    stage.launcher.end(1, ExitStatus(signal=9))
    await actor.until(lambda record: record.lifecycle.state is not State.RUNNING)
    assert readings.sight(actor, "current").kept_alive is None
    await actor.ask(StartRequested())
    await stage.reach(State.RUNNING)
    assert readings.sight(actor, "current").kept_alive is None
