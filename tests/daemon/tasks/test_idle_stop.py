"""Which kernels are stopped as idle, and which clock says so."""

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kconnd.core.kernel.events import StartRequested
from kconnd.core.kernel.lifecycle import State
from kconnd.core.profile.model import Profile
from kconnd.daemon.kernel.readings import Readings
from kconnd.daemon.tasks import idle_stop
from kconnd.daemon.tasks.idle_stop import Idling, idle_for
from tests.conftest import LIMIT, wait_until
from tests.daemon.kernel.test_actor import COMMAND, Stage, acting

STOP_AFTER = 100.0


@dataclass
class Surroundings:
    """What a round of the daemon finds, for a test to change."""

    stage: Stage
    readings: Readings
    looking: Idling
    now: float
    day: float = 1e9
    used: float = 5.0
    clients: int | None = 0

    async def round(self, *, later: float) -> None:
        self.now += later
        self.looking.check([self.stage.actor])
        if self.looking._check is not None:
            await self.looking._check

    async def rounds(self, seconds: float, step: float = 10.0) -> None:
        for _ in range(int(seconds / step)):
            await self.round(later=step)

    @property
    def state(self) -> State:
        return self.stage.actor.kernel.state

    def kept_alive(self) -> str | None:
        return self.readings.sight(self.stage.actor, "current").kept_alive


@pytest.fixture(name="around")
async def _around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Surroundings]:
    stage = Stage(tmp_path)
    stage.profile = Profile(
        name="lab", argv=COMMAND, transport="ipc", idle={"stop_after": STOP_AFTER}
    )
    # Whole seconds: the sums and differences of these times are exact.
    began = float(math.floor(asyncio.get_running_loop().time()))
    world = replace(stage.world, clock=lambda: around.now, wall_clock=lambda: around.day)
    readings = Readings(world)
    around = Surroundings(stage, readings, Idling(readings, world.clock), began)
    stage.world = world
    stage.actor = type(stage.actor)(stage.actor.record, world, stage.source)
    # What a fake kernel has used, and who is connected to it, nobody can read.
    monkeypatch.setattr(
        idle_stop, "_read", lambda asked: [({(1, 1): around.used}, around.clients) for _ in asked]
    )
    async with acting(stage):
        stage.may_answer.set()
        await stage.actor.ask(StartRequested())
        await stage.reach(State.RUNNING)
        await wait_until(lambda: stage.channels[-1].seen, "it to be listened to")
        yield around


async def test_a_kernel_is_stopped_that_nothing_and_nobody_needs(around: Surroundings) -> None:
    await around.rounds(STOP_AFTER - 10)
    assert around.state is State.RUNNING
    await around.rounds(20)
    await wait_until(lambda: around.state is not State.RUNNING, "the stop")
    assert "nothing ran for 1min 40s" in around.stage.actor.kernel.reason
    assert around.stage.channels[-1].asked.count("shell") >= 2, "it is asked before"


async def test_no_other_clock_stops_one(around: Surroundings) -> None:
    """As NTP sets it by an hour, forward and back."""
    began = around.now
    for step in (3600.0, -7200.0, 86400.0):
        around.day += step
        await around.rounds(20)
        assert around.state is State.RUNNING
        shown = around.readings.sight(around.stage.actor, "current")
        assert shown.last_activity == pytest.approx(around.day - (around.now - began))
    await around.rounds(STOP_AFTER)
    await wait_until(lambda: around.state is not State.RUNNING, "the stop")


@pytest.mark.parametrize("clients", [1, None])
async def test_one_with_a_client_or_of_which_nobody_can_tell_is_kept(
    around: Surroundings, clients: int | None
) -> None:
    around.clients = clients
    await around.rounds(3 * STOP_AFTER)
    assert around.state is State.RUNNING
    assert around.kept_alive() is None


async def test_one_whose_processes_work_is_kept_and_that_is_shown(around: Surroundings) -> None:
    for _ in range(30):
        around.used += 0.2
        await around.round(later=10)
    assert around.state is State.RUNNING
    assert around.kept_alive() == "its processes used 2.0% of a core over the last 60 s"
    await around.rounds(80)
    await wait_until(lambda: around.state is not State.RUNNING, "the stop")


async def test_one_whose_subshell_does_not_answer_is_kept_and_that_is_shown(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kconnd.daemon.kernel.monitor.IDLE_PROOF_TIMEOUT_S", 0.02)
    channels = around.stage.channels[-1]
    channels.subshells.append("s1")
    channels.silent.add("s1")
    await around.rounds(STOP_AFTER + 20)
    await wait_until(around.kept_alive, "the reason")
    assert around.state is State.RUNNING
    assert around.kept_alive() == "one of its shells did not answer in time"
    channels.silent.clear()
    async with asyncio.timeout(LIMIT):
        while around.state is State.RUNNING:  # on a slow machine an answer may come too late
            await around.round(later=10)


@pytest.mark.parametrize("request_of", ["execute_request", "comm_msg"])
async def test_one_that_works_on_a_request_is_kept(around: Surroundings, request_of: str) -> None:
    around.stage.channels[-1].say(request_of, "busy")
    await around.rounds(3 * STOP_AFTER)
    assert around.state is State.RUNNING
    assert idle_for(around.stage.actor, around.now) is None
    around.stage.channels[-1].say(request_of, "idle")
    await around.rounds(STOP_AFTER - 10)
    assert around.state is State.RUNNING
    await around.rounds(20)
    await wait_until(lambda: around.state is not State.RUNNING, "the stop")


async def test_one_that_began_something_while_it_was_asked_is_kept(around: Surroundings) -> None:
    await around.rounds(STOP_AFTER - 10)
    around.stage.may_answer.clear()
    await around.rounds(10)
    around.stage.channels[-1].say("cell", "busy")
    around.stage.channels[-1].say("cell", "idle")
    around.stage.may_answer.set()
    for _ in range(20):
        await asyncio.sleep(0.002)
    assert around.state is State.RUNNING


async def test_one_whose_request_may_still_be_worked_on_is_kept_and_that_is_shown(
    around: Surroundings,
) -> None:
    activity = around.stage.actor.process.watch.activity
    assert activity is not None
    activity.record_status("cell", busy=True, now=around.now)
    activity.record_answer(activity.begin_probe(around.now), around.now)
    await around.rounds(2 * STOP_AFTER)
    assert around.state is State.RUNNING
    assert around.kept_alive() == "it has not reported the end of a request"
