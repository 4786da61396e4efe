"""Measures the callbacks of a real daemon's event loop, and the latency of its replies.

As a program, ``slow_turns.py REPORT ARGUMENTS...`` runs ``kconnd ARGUMENTS...`` with one change:
it times every callback of the event loop by `time.thread_time`, which counts neither waiting nor
other threads nor other processes. A callback that takes `REPORT_FROM_S` or longer is written to the
file REPORT at once, as a line of JSON, so that a daemon that is killed has reported it too.

For tests: `measured` makes a `Daemon` start that way, `slow_turns` reads its report since a time,
and `Lookups` requests a kernel's state repeatedly and records the latency of each reply.

    measured(daemon).start()
    with Lookups(daemon, "lab") as lookups:
        ...
    assert_no_slow_turn(daemon, since=lookups.began)

`assert_answers_in_time` takes a function that measures so and returns the `Lookups`. Other programs
can disturb a measurement of latency, so it measures up to `TRIES` times and the best one counts.
"""

import asyncio
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

if TYPE_CHECKING:
    from tests.end_to_end.daemon import Daemon

REPORT_FROM_S = 0.005
# Processor time grows on a busy machine. By day the rest of the test suite runs in parallel.
LONGEST_TURN_S = 0.03 if os.environ.get("KCONND_NIGHTLY") else 0.1
# By day the rest of the suite runs in parallel, and the daemon also waits for a processor.
P99_S = 0.1 if os.environ.get("KCONND_NIGHTLY") else 1.0
TRIES = 3
BETWEEN_LOOKUPS_S = 0.005
LOOK_UP = "--look-up"


@dataclass(frozen=True)
class Turn:
    """A slow callback of the event loop.

    Parameters
    ----------
    at : float
        Its start by `time.monotonic`, which all processes of a machine share.
    cpu_s, wall_s : float
        Processor time of the loop's thread, and elapsed time.
    what : str
        The callback, or a task's coroutines with their lines before and after.
    """

    at: float
    cpu_s: float
    wall_s: float
    what: str


def measure_turns(report: int) -> None:
    """Time every callback of this process's event loops, and report the slow ones."""
    run = asyncio.Handle._run  # every callback goes through it

    def timed(self: asyncio.Handle) -> None:
        before = describe(self)
        at, begin = time.monotonic(), time.thread_time()
        run(self)
        spent = time.thread_time() - begin
        if spent >= REPORT_FROM_S:
            turn = Turn(at, spent, time.monotonic() - at, f"{before}, then {describe(self)}")
            os.write(report, json.dumps(asdict(turn)).encode() + b"\n")

    asyncio.Handle._run = timed  # type: ignore[method-assign]  # asyncio has no hook


def describe(handle: Any) -> str:
    """Describe a callback; for a task, its nested coroutines and their lines."""
    callback = handle._callback  # nothing public gives it
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return repr(callback)
    names: list[str] = []
    awaited: Any = task.get_coro()
    while code := getattr(awaited, "cr_code", None):
        frame = awaited.cr_frame
        names.append(f"{code.co_qualname}:{frame.f_lineno if frame else 'ended'}")
        awaited = awaited.cr_await
    return f"{task.get_name()}: {' > '.join(names)}"


def measured(daemon: "Daemon") -> "Daemon":
    """Make a daemon measure its callbacks from its next start on."""
    daemon.program = (sys.executable, "-W", "error", str(Path(__file__)), str(daemon.turns))
    return daemon


def slow_turns(daemon: "Daemon", since: float = 0.0) -> list[Turn]:
    """Return the slow callbacks since a time of `time.monotonic`, the slowest first."""
    lines = daemon.turns.read_text(encoding="utf-8").splitlines()
    turns = [turn for turn in (Turn(**json.loads(line)) for line in lines) if turn.at >= since]
    return sorted(turns, key=lambda turn: -turn.cpu_s)


def assert_no_slow_turn(
    daemon: "Daemon", since: float = 0.0, longest_s: float = LONGEST_TURN_S
) -> None:
    """Fail, with the slowest callbacks, if one took longer than ``longest_s``."""
    turns = [turn for turn in slow_turns(daemon, since) if turn.cpu_s > longest_s]
    shown = "\n".join(f"{turn.cpu_s * 1000:.0f} ms: {turn.what}" for turn in turns[:10])
    assert not turns, f"{len(turns)} turns of the loop took too long:\n{shown}"


def assert_answers_in_time(
    measure: Callable[[], "Lookups"], p99_s: float = P99_S, tries: int = TRIES
) -> "Lookups":
    """Fail if the 99th percentile of the latency is too high in every measurement.

    A slow daemon is slow each time; another program that disturbs a measurement is not there for
    the next one.
    """
    measurements: list[Lookups] = []
    while len(measurements) < tries:
        measurements.append(measure())
        if measurements[-1].p99_s < p99_s:
            return measurements[-1]
    raise AssertionError("; ".join(map(str, measurements)))


class Lookups:
    """Requests one kernel's state repeatedly, on one connection, while its context is entered.

    Another process sends the requests: in this one, threads that hold the GIL would add to the
    latency.

    Parameters
    ----------
    daemon : Daemon
        The daemon.
    name : str
        The kernel.
    between_s : float
        Seconds between a reply and the next request.
    """

    def __init__(self, daemon: "Daemon", name: str, between_s: float = BETWEEN_LOOKUPS_S) -> None:
        self.seconds: list[float] = []  # latency of each reply
        self.began = 0.0
        self._command = [
            *(sys.executable, "-I", "-S", __file__, LOOK_UP),
            *(str(daemon.socket), f"/v1/kernels/{quote(name)}", str(between_s)),
        ]

    @property
    def p50_s(self) -> float:
        """The median latency."""
        return statistics.median(self.seconds)

    @property
    def p99_s(self) -> float:
        """The 99th percentile of the latency."""
        return statistics.quantiles(self.seconds, n=100, method="inclusive")[98]

    def __str__(self) -> str:
        figures = ((self.p50_s, "p50"), (self.p99_s, "p99"), (max(self.seconds), "max"))
        shown = ", ".join(f"{name} {value * 1000:.1f} ms" for value, name in figures)
        return f"{len(self.seconds)} look-ups: {shown}"

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "begun\n"
        self.began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the requests; fail if one had no reply, or a status other than 200."""
        try:
            latencies = self._process.communicate(timeout=90)[0]
        finally:
            self._process.kill()
        assert self._process.returncode == 0, "a look-up has failed"
        self.seconds += json.loads(latencies)


def look_up(path: str, target: str, between_s: float) -> None:
    """Send requests until standard input ends, then print the latency of each reply."""
    seconds: list[float] = []
    request = f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(90)
        connection.connect(path)
        stream = connection.makefile("rb")
        sys.stdout.write("begun\n")
        sys.stdout.flush()
        while not select.select([sys.stdin], [], [], between_s)[0]:
            begin = time.monotonic()
            connection.sendall(request)
            status, length = stream.readline(), 0
            while (line := stream.readline().strip()) != b"":
                key, _, value = line.partition(b":")
                length = int(value) if key.lower() == b"content-length" else length
            content = stream.read(length)
            seconds.append(time.monotonic() - begin)
            assert b" 200 " in status, (status, content)
    sys.stdout.write(json.dumps(seconds))


def main() -> int:
    """Run the daemon and measure it, or send it requests."""
    if sys.argv[1] == LOOK_UP:
        look_up(sys.argv[2], sys.argv[3], float(sys.argv[4]))
        return 0
    return run_measured()


def run_measured() -> int:
    """Run the daemon and measure its callbacks."""
    report, *arguments = sys.argv[1:]
    measure_turns(os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
    from kconnd.daemon.main import main as kconnd  # noqa: PLC0415  # measured from its first callback on

    return kconnd(arguments)


if __name__ == "__main__":
    sys.exit(main())
