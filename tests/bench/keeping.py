"""Parts about looking after kernels: what their death is, and what the daemon takes itself."""

import itertools
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import psutil

from kconnd.system.process.processes import is_alive
from tests.bench.processes import ran
from tests.bench.results import Result, in_ms, spread_of
from tests.bench.subjects import Kconnd, at_once
from tests.conftest import wait_for

LOOKS_S = 7.0  # until the daemon has looked at the sockets of 200 kernels that have just started


def deaths(*, quick: bool) -> Iterator[Result]:
    """From the death of a kernel until it is told, and until it runs again."""
    with Kconnd("again") as kconnd:
        times = [kill_one(kconnd) for _ in range(5 if quick else 20)]
    yield in_ms("a death is seen", [seen for seen, _ in times], "<= 10")
    # by default a profile waits for half a second first, which is a choice and no cost
    name = "a dead kernel runs again (fork, backoff 10 ms)"
    yield in_ms(name, [again for _, again in times], "<= 80")


def kill_one(kconnd: Kconnd) -> tuple[float, float]:
    """Kill a kernel; seconds until its death is told, and until it has answered again."""
    kernel = kconnd.start("again")
    (name,) = kconnd.names
    with kconnd.daemon.stream(f"/v1/events?kernel={name}") as events:
        past = sum(1 for _ in events)
    with kconnd.daemon.stream(f"/v1/events?follow=1&kernel={name}") as events:
        for _ in itertools.islice(events, past):
            pass  # they are told again
        pid, _ = kernel.find()
        begin = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        seen = _when(events, "backoff") - begin
        again = _when(events, "running") - begin
    kernel.end()
    return seen, again


def _when(events: Iterator[dict[str, Any]], wanted: str) -> float:
    """Give the time at which an event is told."""
    next(event for event in events if event["event"] == wanted)
    return time.perf_counter()


# --- the daemon itself


def upkeep(*, quick: bool) -> Iterator[Result]:
    """What the daemon takes with no kernels and with many, and how it takes many up."""
    with Kconnd("fork") as kconnd:
        _restart(kconnd)
        for count, cpu, memory in STEPS:
            _start_up_to(kconnd, count)
            settle, pause = _times(quick=quick, judged=bool(cpu))
            time.sleep(settle)  # until starting them has no more after-effects
            yield from _idle(kconnd, count, pause, cpu, memory)
            if count == ADOPTED:
                taken = [adopt(kconnd) for _ in range(3)]
                yield in_ms(f"{ADOPTED} kernels taken up after kill -9", taken, "<= 1000")


ADOPTED = 50
STEPS = ((0, "", "<= 45"), (50, "", ""), (200, "<= 0.2", "<= 60"))
"""How many kernels, and the targets of the processor time and the memory then."""


def _times(*, quick: bool, judged: bool) -> tuple[float, float]:
    """Give seconds to let the daemon settle in, and of each of the times in which it is idle."""
    if not quick:
        return LOOKS_S, 5
    return (LOOKS_S, 0.75) if judged else (1, 0.25)


def _restart(kconnd: Kconnd) -> None:
    """Begin afresh: with the same profile, and nothing prepared for it."""
    kconnd.daemon.end()
    kconnd.daemon.start()


def _start_up_to(kconnd: Kconnd, count: int) -> None:
    while missing := count - len(kconnd.names):
        found = at_once(lambda: kconnd.start("fork"), min(missing, 25))
        if found.failures:
            raise RuntimeError(f"not all of {count} kernels came up: {found.failures[0]}")


def _idle(kconnd: Kconnd, count: int, pause: float, cpu: str, memory: str) -> Iterator[Result]:
    assert kconnd.daemon.process is not None  # it runs
    pid = kconnd.daemon.process.pid
    used = []
    for _ in range(4):
        before, begin = ran(pid), time.perf_counter()
        time.sleep(pause)
        used.append((ran(pid) - before) / (time.perf_counter() - begin) * 100)
    # not their median: what is done every few seconds falls into one of them
    mean = sum(used) / len(used)
    yield Result(f"daemon, idle, {count} kernels", mean, "%", cpu, spread_of(used))
    size = psutil.Process(pid).memory_info().rss / 2**20
    yield Result(f"daemon, memory, {count} kernels", size, "MB", memory)


def adopt(kconnd: Kconnd) -> float:
    """Kill the daemon, and time the next one until it has all kernels."""
    before = set(kconnd.pids())
    kconnd.daemon.kill()
    begin = time.perf_counter()
    kconnd.daemon.start()
    wait_for(lambda: set(kconnd.pids()) == before, f"{len(before)} kernels to be taken up")
    taken = time.perf_counter() - begin
    if not all(is_alive(kconnd.daemon.shim_of(name)) for name in kconnd.names):
        raise RuntimeError("a kernel was lost")
    return taken
