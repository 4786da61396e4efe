"""How much of a loop one kernel takes, over real descriptors."""

import asyncio
import itertools
import os
import selectors
import statistics
from collections.abc import Iterator

import pytest

from kconnd.system.channels.flow_control import (
    CORE_SHARE,
    LOSS_COUNT,
    MAX_CREDIT_S,
    TURN_S,
    Clocks,
    ReadBudget,
    ReadTurns,
    ThrottledReader,
)
from tests.conftest import wait_until


@pytest.fixture(name="pipe")
def _pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    os.set_blocking(ends[0], False)
    yield ends
    for end in ends:
        os.close(end)


class Time:
    """Passes only as a test works, whatever else the machine does."""

    def __init__(self) -> None:
        self.now = 100.0
        self.clocks = Clocks(lambda: self.now, lambda: self.now)

    def work(self, seconds: float) -> None:
        self.now += seconds


class Waiting(selectors.DefaultSelector):
    """Lets the time pass for which a loop would wait."""

    def __init__(self, passing: Time) -> None:
        super().__init__()
        self._passing = passing

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing would ever happen"
            self._passing.work(timeout)
        return ready


class TimedLoop(asyncio.SelectorEventLoop):
    """An event loop by the time of a test."""

    def __init__(self, passing: Time) -> None:
        super().__init__(Waiting(passing))
        self.time = lambda: passing.now  # type: ignore[method-assign]  # it asks nothing else


def test_who_publishes_without_pause_takes_a_tenth_of_a_core_and_the_loop_goes_on() -> None:
    passing = Time()
    lost: list[int] = []
    budget, pauses, worked = ReadBudget(), [], 0.0

    def receive() -> int:
        nonlocal worked
        passing.work(TURN_S / 10)
        worked += TURN_S / 10
        return 1

    async def watch() -> None:
        flows = [
            ThrottledReader(budget, receive, lambda: lost.append(1), passing.clocks)
            for _ in range(3)
        ]
        pipes = [os.pipe() for _ in flows]
        for _, end in pipes:
            os.write(end, b"x")  # which is never read
        turns = [ReadTurns(pipe[0], flow, print) for pipe, flow in zip(pipes, flows, strict=True)]
        while passing.now < 110.0:
            began = passing.now
            await asyncio.sleep(0.005)
            pauses.append(passing.now - began)
        for turn in turns:
            turn.close()
        for end in itertools.chain(*pipes):
            os.close(end)

    with asyncio.Runner(loop_factory=lambda: TimedLoop(passing)) as runner:
        runner.run(watch())
    assert CORE_SHARE / 2 < worked / (passing.now - 100.0) < 0.1
    assert lost
    assert not budget.readers
    assert max(pauses) <= 3 * MAX_CREDIT_S, "while each uses what it saved up"
    assert statistics.median(pauses) < 0.005 + TURN_S


async def test_the_more_publish_so_the_longer_each_waits() -> None:
    budget, passing = ReadBudget(), Time()

    def receive() -> int:
        passing.work(TURN_S / 4)
        return 1

    flows = [ThrottledReader(budget, receive, lambda: None, passing.clocks) for _ in range(4)]
    pauses = [until_paused(flow) for flow in flows]
    assert pauses == sorted(pauses)
    assert pauses[0] >= TURN_S / CORE_SHARE
    assert pauses[3] >= 4 * TURN_S / CORE_SHARE
    for flow in flows[1:]:
        flow.end()
    assert budget.readers == {flows[0]}


def until_paused(flow: ThrottledReader) -> float:
    """Take turns until what was saved up is used."""
    for _ in range(round(MAX_CREDIT_S / TURN_S) + 2):
        pause = flow.turn()
        assert pause is not None
        if pause:
            return pause
    pytest.fail("it never has to wait")


async def test_who_leaves_nothing_to_read_and_still_takes_too_long_has_to_wait() -> None:
    """As a kernel that sends a message for each turn of ours."""
    lost: list[int] = []
    left, passing = [0], Time()

    def receive() -> int | None:
        left[0] += 1
        if left[0] % 2:
            return None
        passing.work(TURN_S)
        return 1

    flow = ThrottledReader(ReadBudget(), receive, lambda: lost.append(1), passing.clocks)
    turns = [flow.turn() for _ in range(2 * round(MAX_CREDIT_S / TURN_S) + 4)]
    assert turns[0] is None
    assert any(turns)
    assert lost


async def test_what_is_there_is_read_at_once_and_nothing_is_taken_for_lost(
    pipe: tuple[int, int],
) -> None:
    lost: list[int] = []
    read: list[bytes] = []

    def receive() -> int | None:
        try:
            read.append(os.read(pipe[0], 1))
        except BlockingIOError:
            return None
        return 1

    os.write(pipe[1], b"abc")
    flow = ThrottledReader(ReadBudget(), receive, lambda: lost.append(1), Time().clocks)
    turns = ReadTurns(pipe[0], flow, print)
    await wait_until(lambda: len(read) == 3, "the first")
    os.write(pipe[1], b"d")
    await wait_until(lambda: len(read) == 4, "the next")
    turns.close()
    assert not lost
    assert flow.heard_at > 0


async def test_many_messages_in_a_second_may_have_had_others_among_them() -> None:
    """Of more than a kernel's socket buffers it drops some, however fast we read."""
    lost: list[int] = []
    left = [LOSS_COUNT, 0]
    flow = ThrottledReader(ReadBudget(), lambda: left.pop(0) or None, lambda: lost.append(1))
    assert flow.turn() is None
    assert lost


async def test_a_fault_ends_the_turns_and_is_told(pipe: tuple[int, int]) -> None:
    told: list[Exception] = []

    def receive() -> int:
        raise KeyError

    os.write(pipe[1], b"x")
    ReadTurns(pipe[0], ThrottledReader(ReadBudget(), receive, lambda: None), told.append)
    await wait_until(lambda: told, "the fault")
    assert [type(one) for one in told] == [KeyError]
