"""What the daemon makes of what a kernel says and leaves unsaid, over a fake one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kconnd.core.kernel import activity, silence
from kconnd.core.kernel.events import Adopted, Answered, StartRequested
from kconnd.core.kernel.habits import Habits
from kconnd.core.kernel.lifecycle import State
from kconnd.daemon.kernel import monitor, questions, shell_check
from kconnd.daemon.kernel.background import BackgroundTasks
from kconnd.daemon.kernel.monitor import Watch
from kconnd.daemon.kernel.readings import Readings
from tests.conftest import wait_until as wait_for_it
from tests.daemon.kernel.fakes import FakeChannels, Reports, a_connection
from tests.daemon.kernel.test_actor import Stage, acting, taken_up


@pytest.fixture(name="stage")
async def _stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with acting(Stage(tmp_path)) as found:
        yield found


async def running(stage: Stage) -> FakeChannels:
    """Give the channels of a kernel that runs and is listened to."""
    stage.may_answer.set()
    await stage.actor.ask(StartRequested())
    await stage.reach(State.RUNNING)
    await wait_for_it(lambda: stage.channels[-1].seen, "it to be listened to")
    return stage.channels[-1]


async def test_missing_heartbeats_are_told_where_the_kernel_answers_nothing_else(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "IDLE_PROOF_TIMEOUT_S", 0.02)
    channels, process = await running(stage), stage.actor.process
    process.watch.beat(allowed=3)  # what is silent from one to the next counts
    channels.answers_heartbeats = False
    channels.asked.clear()
    for _ in range(3):
        process.watch.beat(allowed=3)
    await wait_for_it(lambda: channels.asked == ["shell"], "the question")
    assert process.watch.heartbeat == "missed"
    for _ in range(20):
        await asyncio.sleep(0.002)
    assert not stage.actor.kernel.unresponsive, "it has answered on shell"
    stage.may_answer.clear()
    for _ in range(3):
        process.watch.beat(allowed=3)
    await wait_for_it(lambda: stage.actor.kernel.unresponsive, "the alarm")
    channels.answers_heartbeats = True
    process.watch.beat(allowed=3)
    await wait_for_it(lambda: not stage.actor.kernel.unresponsive, "the all-clear")
    assert (stage.actor.kernel.state, process.watch.heartbeat) == (State.RUNNING, "alive")


async def test_silence_during_a_cell_is_told_of_a_kernel_that_answers_then(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "IDLE_PROOF_TIMEOUT_S", 0.02)
    channels, process = await running(stage), stage.actor.process
    stage.may_answer.clear()  # on shell
    channels.say("cell", "busy")
    channels.answers_heartbeats = False
    for _ in range(9):
        process.watch.beat(allowed=3)
    assert (process.watch.beats.missed, process.watch.heartbeat) == (0, "unknown"), (
        "it may be how it is"
    )
    channels.answers_heartbeats = True
    for _ in range(2):
        process.watch.beat(allowed=3)
    await wait_for_it(lambda: stage.actor.record.habits.silent_busy, "it to be on record")
    channels.answers_heartbeats = False
    for _ in range(9):
        process.watch.beat(allowed=3)
    assert process.watch.beats.missed == 0
    process.watch.learn(Habits(beats=True, beats_busy=True))  # as of a kernel with a thread for it
    for _ in range(3):
        process.watch.beat(allowed=3)
    await wait_for_it(lambda: stage.actor.kernel.unresponsive, "the alarm")


async def test_a_heartbeat_that_comes_during_a_cell_is_learned_and_kept(stage: Stage) -> None:
    channels, process = await running(stage), stage.actor.process
    for request in ("one", "two"):  # no one request lasts from heartbeat to heartbeat
        channels.say(request, "busy")
        process.watch.beat(allowed=3)
        channels.say(request, "idle")
    process.watch.beat(allowed=3)
    assert not stage.actor.record.habits.beats_busy
    channels.say("three", "busy")
    for _ in range(2):
        process.watch.beat(allowed=3)
    await wait_for_it(lambda: stage.actor.record.habits.beats_busy, "it to be on record")
    assert not stage.actor.record.habits.silent_busy
    stage.actor.enqueue(Adopted(1))
    await wait_for_it(lambda: stage.saved()["habits"]["beats_busy"], "the record")


async def test_a_kernel_that_never_answers_a_heartbeat_is_neither_alive_nor_unresponsive(
    stage: Stage,
) -> None:
    stage.heartbeats = None
    channels, process = await running(stage), stage.actor.process
    channels.answers_heartbeats = False
    channels.asked.clear()
    for _ in range(7):  # the first after something was heard is none
        process.watch.beat(allowed=3)
    await wait_for_it(lambda: channels.asked == ["shell"] * 2, "the questions")
    assert process.watch.heartbeat == "unknown"
    assert not stage.actor.kernel.unresponsive


@pytest.mark.parametrize("sign", ["status", "heartbeat", "none"])
async def test_any_sign_of_an_adopted_kernel_is_a_sign_of_life(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, sign: str
) -> None:
    monkeypatch.setattr(monitor, "CONFIRM_TIMEOUT_S", 0.05)
    stage.heartbeats = None
    await running(stage)
    stage.may_answer.clear()
    stage.heartbeats = sign == "heartbeat"
    async with taken_up(stage) as actor:
        channels = stage.channels[-1]
        await wait_for_it(lambda: channels.seen, "it to be listened to")
        if sign == "status":
            channels.say("cell", "busy")
        await wait_for_it(lambda: "control" in channels.asked, "the question")
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert actor.kernel.unresponsive == (sign == "none")
        assert actor.process.watch.execution_state == ("busy" if sign == "status" else "unknown")
        stage.may_answer.set()
        await wait_for_it(lambda: not actor.kernel.unresponsive, "the all-clear")


async def test_an_adopted_kernel_is_idle_once_each_shell_has_answered(stage: Stage) -> None:
    stage.subshells = ["s1", "s2"]
    await running(stage)
    async with taken_up(stage) as actor:
        await wait_for_it(lambda: actor.process.watch.execution_state == "idle", "the answers")
        asked = [one for one in stage.channels[-1].asked if one != "control"]
        assert asked == ["shell", "list_subshells", "s1", "s2"]
        assert actor.process.watch.is_sure


async def test_an_idle_that_was_lost_is_found_out_by_asking(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "QUIET_PERIOD_S", 0.05)
    monkeypatch.setattr(monitor, "IOPUB_LAG_S", 0.0)
    channels, process = await running(stage), stage.actor.process
    channels.say("cell", "busy")
    channels.lose()
    assert process.watch.execution_state == "busy"
    await wait_for_it(lambda: process.watch.execution_state == "idle", "the answer")
    assert process.watch.is_sure


async def test_a_subshell_that_was_deleted_before_it_answered_is_not_waited_for(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "QUIET_PERIOD_S", 0.05)
    for module in (monitor, questions):
        monkeypatch.setattr(module, "PROBE_INTERVAL_S", 0.05)
    monkeypatch.setattr(monitor, "IOPUB_LAG_S", 0.0)
    stage.subshells = ["s1", "s2"]
    channels, process = await running(stage), stage.actor.process
    channels.silent = {"s1"}
    channels.asked.clear()
    channels.say("cell", "busy")
    channels.lose()
    await wait_for_it(lambda: channels.asked.count("list_subshells") > 2, "it to be listed again")
    assert process.watch.execution_state == "busy", "s1 is there, and may work on it"
    assert [one for one in channels.asked if one != "list_subshells"] == ["shell", "s1", "s2"]
    channels.subshells.remove("s1")
    await wait_for_it(lambda: process.watch.execution_state == "idle", "the answers of the others")
    assert process.watch.is_sure


async def test_a_busy_that_was_lost_is_found_out_by_asking(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("QUIET_PERIOD_S", "ANSWER_TIMEOUT_S"):
        monkeypatch.setattr(activity, name, 0.05)
        monkeypatch.setattr(monitor, name, 0.05, raising=False)
    channels, process = await running(stage), stage.actor.process
    stage.may_answer.clear()
    channels.lose()
    assert not process.watch.is_sure
    await wait_for_it(lambda: process.watch.execution_state == "busy", "it to be found busy")
    stage.may_answer.set()
    await wait_for_it(lambda: process.watch.execution_state == "idle", "the answer")


async def test_a_list_of_subshells_that_makes_no_sense_leaves_it_unknown_and_is_asked_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "CONFIRM_TIMEOUT_S", 0.05)
    monkeypatch.setattr(activity, "QUIET_PERIOD_S", 0.05)
    stage.subshells = ["s1"]
    await running(stage)
    async with taken_up(stage) as actor:
        channels = stage.channels[-1]
        channels.fault = ValueError("its list of subshells makes no sense")
        await wait_for_it(lambda: channels.asked.count("list_subshells") > 1, "the questions")
        assert actor.process.watch.execution_state == "unknown"
        assert Readings(stage.world).sight(actor, "current").last_activity is None
        channels.fault = None
        await wait_for_it(lambda: actor.process.watch.execution_state == "idle", "the answers")


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the times after which a kernel is checked, and counts as silent."""
    for module in (monitor, silence):
        monkeypatch.setattr(module, "SILENT_AFTER_S", 0.05)
    monkeypatch.setattr(silence, "CHECK_AFTER_S", 0.0)
    monkeypatch.setattr(monitor, "MAX_PROOF_AGE_S", 0.0)
    monkeypatch.setattr(shell_check, "CONTROL_AFTER_S", 0.01)


@pytest.mark.usefixtures("_soon")
async def test_an_idle_kernel_that_answers_no_request_is_not_idle(stage: Stage) -> None:
    channels, watch = await running(stage), stage.actor.process.watch
    channels.silent = {"shell"}
    channels.asked.clear()
    await watch.check_shells()
    assert "it reports idle, but has not answered on its shell channel" in watch.silence
    assert (watch.execution_state, watch.heartbeat) == ("unknown", "alive")
    await wait_for_it(lambda: "control channel answers" in watch.silence, "the control channel")
    assert Readings(stage.world).sight(stage.actor, "current").unanswered
    await watch.check_shells()
    assert channels.asked == ["shell", "control"], "requests would accumulate"
    assert not await watch.is_idle(0.02)
    channels.say("cell", "busy")
    assert (watch.silence, watch.execution_state) == ("", "busy")
    channels.say("cell", "idle")
    assert watch.silence == "", "it has worked on a request since"


@pytest.mark.usefixtures("_soon")
async def test_a_kernel_that_answers_again_is_idle(stage: Stage) -> None:
    channels, watch = await running(stage), stage.actor.process.watch
    stage.may_answer.clear()
    await watch.check_shells()
    assert watch.silence
    assert "control" not in watch.silence
    stage.may_answer.set()
    await wait_for_it(lambda: not watch.silence, "the answer")
    channels.asked.clear()
    assert await watch.is_idle()
    assert channels.asked == ["shell"]


@pytest.mark.usefixtures("_soon")
async def test_a_heartbeat_checks_a_kernel_once_after_its_requests(stage: Stage) -> None:
    channels, watch = await running(stage), stage.actor.process.watch
    channels.asked.clear()
    watch.beat(allowed=3)
    assert channels.asked == [], "it has answered since it began"
    channels.say("cell", "busy")
    watch.beat(allowed=3)
    channels.say("cell", "idle")
    for _ in range(3):
        watch.beat(allowed=3)
    await wait_for_it(lambda: channels.asked, "the check")
    await wait_for_it(lambda: watch.activity and watch._proved_at > watch.activity.active_at, "it")
    watch.beat(allowed=3)
    await asyncio.sleep(0)
    assert channels.asked == ["shell"]


def watch_alone(**changes: Any) -> tuple[Watch, Reports, BackgroundTasks]:
    """Build what listens to a kernel, without an actor or a process."""
    reports, tasks = Reports(), BackgroundTasks("lab")

    async def turn() -> None:
        await asyncio.sleep(0)

    options: dict[str, Any] = {
        "report": reports.append,
        "answered": lambda reply, first: reports.append((first, reply)),
        "learned": reports.append,
        "observed": reports.append,
        "clock": asyncio.get_running_loop().time,
        "turn": turn,
        "spawn": tasks.spawn,
    }
    return Watch(**{**options, **changes}), reports, tasks


async def test_the_first_answer_is_reported_with_its_generation(tmp_path: Path) -> None:
    watch, reports, tasks = watch_alone()
    may_answer = asyncio.Event()
    channels = FakeChannels(a_connection(tmp_path), may_answer)
    watch.begin(fresh=True, habits=Habits())
    for work in watch.listen(channels, 7, fresh=True, beats=False):
        tasks.spawn(work)
    await asyncio.sleep(0)
    assert (watch.execution_state, list(reports)) == (None, [])
    may_answer.set()
    await wait_for_it(lambda: channels.seen, "it to listen to the status")
    assert [reports[0][0], *reports[1:]] == [True, Answered(7)]
    channels.say("cell", "busy")
    assert watch.execution_state == "busy"
    channels.say("cell", "idle")
    assert watch.execution_state == "idle"
    tasks.cancel()
    watch.end()
    assert watch.activity is None
    assert channels.closed


async def test_requests_go_nowhere_without_a_kernel(tmp_path: Path) -> None:
    watch, _, tasks = watch_alone()
    assert not await watch.control("shutdown_request", {})
    channels = FakeChannels(a_connection(tmp_path), asyncio.Event())
    channels.may_answer.set()
    watch.begin(fresh=False, habits=Habits())
    for work in watch.listen(channels, 1, fresh=False):
        tasks.spawn(work)
    assert await watch.control("shutdown_request", {})
    await watch.request("interrupt_request", {})
    assert channels.asked[:2] == ["shutdown_request", "interrupt_request"]
    tasks.cancel()
    watch.end()


async def test_a_reply_on_control_to_an_adoption_is_a_fact(tmp_path: Path) -> None:
    watch, reports, tasks = watch_alone()
    channels = FakeChannels(a_connection(tmp_path), asyncio.Event())
    watch.begin(fresh=False, habits=Habits())
    for work in watch.listen(channels, 1, fresh=False, beats=False):
        tasks.spawn(work)
    await wait_for_it(lambda: "control" in channels.asked, "the request")
    assert not reports.of(dict)
    channels.may_answer.set()
    await wait_for_it(lambda: reports.of(dict), "the fact")
    assert list(reports.of(dict)[0]) == ["answers_on_control"]
    tasks.cancel()
    watch.end()
