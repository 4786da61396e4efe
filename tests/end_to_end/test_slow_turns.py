"""The measure itself: it sees a slow turn of a real daemon's loop, and who waited for it."""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.end_to_end.daemon import SMALL, Daemon
from tests.end_to_end.slow_turns import (
    REPORT_FROM_S,
    Lookups,
    Turn,
    assert_answers_in_time,
    assert_no_slow_turn,
    measure_turns,
    measured,
    slow_turns,
)


@pytest.fixture
def _as_before() -> Iterator[None]:
    run = asyncio.Handle._run
    yield
    asyncio.Handle._run = run  # type: ignore[method-assign]


@pytest.mark.usefixtures("_as_before")
def test_a_turn_is_reported_by_its_processor_time_alone(tmp_path: Path) -> None:
    """One that sleeps is not slow, and one that computes is, with where it is."""
    report = os.open(tmp_path / "report", os.O_WRONLY | os.O_CREAT)
    measure_turns(report)

    async def compute() -> None:
        begin = time.thread_time()
        while time.thread_time() < begin + 2 * REPORT_FROM_S:
            pass
        await asyncio.sleep(0)

    async def rest() -> None:
        await compute()
        time.sleep(2 * REPORT_FROM_S)  # noqa: ASYNC251  # it is what is measured

    asyncio.run(rest())
    os.close(report)
    turns = [Turn(**json.loads(line)) for line in (tmp_path / "report").read_text().splitlines()]
    found = [turn for turn in turns if "compute" in turn.what]
    assert len(found) == 1
    assert found[0].cpu_s >= 2 * REPORT_FROM_S
    assert "rest" in found[0].what


def test_a_daemon_is_measured_and_asked(daemon: Daemon) -> None:
    daemon.profile("lab", SMALL)
    measured(daemon).start()
    with Lookups(daemon, "lab") as lookups:
        daemon.post("lab", "start")
    assert len(lookups.seconds) > 2
    assert 0 < lookups.p50_s <= lookups.p99_s
    slow = Turn(time.monotonic(), 0.031, 0.031, "a made up one")
    with daemon.turns.open("a", encoding="utf-8") as report:
        report.write(f"{json.dumps(asdict(slow))}\n")
    assert slow in slow_turns(daemon, since=lookups.began)
    with pytest.raises(AssertionError, match="31 ms: a made up one"):
        assert_no_slow_turn(daemon, longest_s=slow.cpu_s / 2)
    assert_no_slow_turn(daemon, since=slow.at + 1)


def test_the_best_of_a_few_measurements_counts(daemon: Daemon) -> None:
    def found(*seconds: float) -> list[Lookups]:
        lookups = [Lookups(daemon, "lab") for _ in seconds]
        for one, value in zip(lookups, seconds, strict=True):
            one.seconds += [value] * 100
        return lookups

    left = found(0.3, 0.05, 0.3)
    assert assert_answers_in_time(lambda: left.pop(0), p99_s=0.1).p99_s == pytest.approx(0.05)
    assert len(left) == 1, "it ends with the first that will do"
    slow = found(0.2, 0.3, 0.4, 0.05)
    with pytest.raises(AssertionError, match=r"p99 200\.0 ms.*p99 300\.0 ms.*p99 400\.0 ms"):
        assert_answers_in_time(lambda: slow.pop(0), p99_s=0.1)
