"""When each kernel's turn comes, and what happens then."""

import asyncio
import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.kernel.lifecycle import State
from kconnd.core.profile.model import Profile
from kconnd.daemon.tasks.heartbeats import MAX_INTERVAL_S, beat_for_ever, next_turn
from kconnd.daemon.tasks.idle_stop import UNPROVEN

INTERVALS = st.floats(0.1, 3600) | st.just(math.inf)


@given(st.floats(0, 1e7), INTERVALS)
def test_a_turn_comes_within_an_interval_and_within_a_round(now: float, interval: float) -> None:
    pause = next_turn(now, interval) - now
    assert -1e-6 <= pause <= min(interval, MAX_INTERVAL_S) + 1e-6


@given(st.floats(0, 1e6), st.floats(0, 0.99))
def test_those_of_one_interval_have_their_turns_together(now: float, later: float) -> None:
    start = math.floor(now) * 1.0
    assert next_turn(start, 1.0) == next_turn(start + later, 1.0)


def test_a_kernel_that_is_never_asked_for_a_heartbeat_may_idle_all_the_same() -> None:
    assert next_turn(100.0, math.inf) == 120.0


class Kernel:
    """The part of an actor that the rounds use; it notes the times of its heartbeats."""

    def __init__(
        self, rounds: "Rounds", name: str, interval: float, *, fails: bool = False
    ) -> None:
        self.record = SimpleNamespace(name=name)
        self.kernel = SimpleNamespace(state=State.RUNNING, generation=1)
        self.profile = Profile(
            name=name, kernel="python3", heartbeat={"interval": interval}, idle={"stop_after": 5.0}
        )
        self.beats: list[float] = []
        self.process = self.watch = self
        # A request of which no end was reported.
        self.activity = SimpleNamespace(is_sure=False, unproven=True, state="idle", active_at=-9.0)
        self._rounds, self._fails = rounds, fails

    def beat(self, allowed: int) -> None:
        assert allowed == self.profile.heartbeat.misses
        self.beats.append(self._rounds.now)
        if self._fails:
            raise RuntimeError("a fault")


class Rounds:
    """The kernels of a daemon in which time passes whenever it waits for an event.

    Parameters
    ----------
    rounds : int
        The waits after which no more time passes.
    """

    def __init__(self, rounds: int) -> None:
        self.now, self.count, self.finished = 0.0, 7, asyncio.Event()
        self.kernels: list[Kernel] = []
        self.kept_alive: dict[str, str] = {}
        self.world: Any = SimpleNamespace(clock=lambda: self.now, bus=self)
        self.readings = self
        self._rounds = rounds

    def all(self) -> list[Kernel]:
        return self.kernels

    async def wait_for_change(self, timeout_s: float, since: int) -> None:
        assert since == self.count
        self._rounds -= 1
        if self._rounds == 0:
            self.finished.set()
            await asyncio.Event().wait()
        self.now += timeout_s

    def note_kept_alive(self, actor: Kernel, reason: str) -> None:
        self.kept_alive[actor.record.name] = reason


async def run_rounds(rounds: Any) -> None:
    task = asyncio.create_task(beat_for_ever(rounds))
    await asyncio.wait(
        {task, asyncio.create_task(rounds.finished.wait())}, return_when=asyncio.FIRST_COMPLETED
    )
    if task.done():
        task.result()  # its error says more than a missing round
    task.cancel()


async def test_each_kernel_has_its_heartbeats_at_its_interval() -> None:
    rounds = Rounds(rounds=5)
    often, rarely = Kernel(rounds, "often", 10.0), Kernel(rounds, "rarely", 20.0)
    never, ended = Kernel(rounds, "never", math.inf), Kernel(rounds, "ended", 10.0)
    ended.kernel.state = State.STOPPED
    rounds.kernels = [often, rarely, never, ended]
    await run_rounds(rounds)
    assert often.beats == [0.0, 10.0, 20.0, 30.0, 40.0]
    assert rarely.beats == [0.0, 20.0, 40.0]
    assert never.beats == ended.beats == []


async def test_a_round_checks_which_kernels_idle() -> None:
    rounds = Rounds(rounds=1)
    never, ended = Kernel(rounds, "never", math.inf), Kernel(rounds, "ended", 10.0)
    ended.kernel.state = State.STOPPED
    rounds.kernels = [never, ended]
    await run_rounds(rounds)
    assert rounds.kept_alive == {"never": UNPROVEN}


async def test_a_heartbeat_that_fails_keeps_no_other_kernel_from_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rounds = Rounds(rounds=2)
    rounds.kernels = [Kernel(rounds, "broken", 10.0, fails=True), Kernel(rounds, "sound", 10.0)]
    await run_rounds(rounds)
    assert [kernel.beats for kernel in rounds.kernels] == [[0.0, 10.0]] * 2
    assert caplog.text.count("broken: sending its heartbeat") == 2


async def test_a_daemon_without_kernels_rests() -> None:
    rounds = Rounds(rounds=2)
    await run_rounds(rounds)
    assert rounds.now == MAX_INTERVAL_S
