"""What is read of kernels for those who look: once for all who ask, and of the right process."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from kconnd.core.kernel.activity import Activity
from kconnd.core.kernel.events import StartAsked
from kconnd.core.kernel.lifecycle import State
from kconnd.daemon.kernel.readings import is_fresh, read_anew, see
from kconnd.system.process.processes import ProcessId
from tests.daemon.kernel.test_actor import Stage, acting


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Give a kernel that runs."""
    async with acting(Stage(tmp_path)) as found:
        found.may_answer.set()
        await found.actor.ask(StartAsked())
        await found.reach(State.RUNNING)
        yield found


async def test_what_was_read_is_shown_while_it_is_fresh(stage: Stage) -> None:
    actor, world = stage.actor, stage.world
    assert not is_fresh(actor, world)
    assert see(actor, world, "current").memory is None
    await read_anew([actor], world)
    assert is_fresh(actor, world)
    reading = actor.life.reading
    await read_anew([actor], world)
    assert actor.life.reading is reading
    assert see(actor, world, "current").memory is not None
    assert see(actor, world, "current", quick=True).memory is None


async def test_what_was_read_of_a_kernel_that_was_starting_is_not_shown_once_it_runs(
    tmp_path: Path,
) -> None:
    async with acting(Stage(tmp_path)) as stage:
        await stage.actor.ask(StartAsked())
        await stage.reach(State.STARTING)
        await read_anew([stage.actor], stage.world)
        assert is_fresh(stage.actor, stage.world)
        stage.may_answer.set()
        await stage.reach(State.RUNNING)
        assert not is_fresh(stage.actor, stage.world)


async def test_what_is_being_read_while_a_kernel_answers_is_not_shown(tmp_path: Path) -> None:
    async with acting(Stage(tmp_path)) as stage:
        await stage.actor.ask(StartAsked())
        await stage.reach(State.STARTING)
        reading = asyncio.create_task(read_anew([stage.actor], stage.world))
        for _ in range(2):  # it begins, and has what it is about
            await asyncio.sleep(0)
        stage.actor.life.watch.activity = Activity(0.0, known=True)
        await reading
        assert not is_fresh(stage.actor, stage.world)


async def test_of_those_who_ask_at_once_one_reads_for_all(stage: Stage) -> None:
    actor, world = stage.actor, stage.world
    first = asyncio.create_task(read_anew([actor], world))
    await asyncio.sleep(0)
    reading = actor.life.reading_now
    others = [asyncio.create_task(read_anew([actor], world)) for _ in range(5)]
    await asyncio.sleep(0)
    assert actor.life.reading_now is reading is not None
    first.cancel()  # who goes away takes it from nobody
    await asyncio.gather(*others)
    assert actor.life.reading_now is None
    assert is_fresh(actor, world)


async def test_what_was_read_of_the_process_before_is_not_shown(stage: Stage) -> None:
    actor, world = stage.actor, stage.world
    await read_anew([actor], world)
    assert actor.life.handle is not None
    actor.life.handle = replace(actor.life.handle, shim=ProcessId(2, 2))
    assert not is_fresh(actor, world)
    assert see(actor, world, "current").memory is None
    actor.life.handle = None
    assert is_fresh(actor, world), "there is nothing to be read"
    assert see(actor, world, "current").memory is None
