"""Measures each turn of a real daemon's event loop, in processor time, and looks kernels up.

As a program, ``slow_turns.py REPORT ARGUMENTS...`` runs ``kconnd ARGUMENTS...`` with one change:
every callback of the event loop is timed by `time.thread_time`, so that neither waiting nor other
threads nor other processes count. A callback that takes `REPORT_FROM_S` or longer becomes a
line of JSON in the file REPORT at once: a daemon that is killed has reported all the same.

For tests: `measured` makes a `Daemon` start that way, `slow_turns` reads what it reported since a
time, and `Lookups` asks for a kernel again and again and keeps how long each answer took.

    measured(daemon).start()
    with Lookups(daemon, "lab") as lookups:
        ...
    assert_no_slow_turn(daemon, since=lookups.began)

`assert_answers_in_time` takes a function that does so and gives `lookups`: other programs may
disturb one measurement of how long answers take, so that the best of a few counts.
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
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

if TYPE_CHECKING:
    from tests.end_to_end.daemon import Daemon

REPORT_FROM_S = 0.005
# Of processor time, which a crowded machine makes more of: by day the suite runs beside.
LONGEST_TURN_S = 0.03 if os.environ.get("KCONND_NIGHTLY") else 0.1
# Seconds. By day the rest of the suite runs beside, and waits for processors are not the daemon's.
P99_S = 0.1 if os.environ.get("KCONND_NIGHTLY") else 1.0
TRIES = 3
BETWEEN_LOOKUPS_S = 0.005
LOOK_UP = "--look-up"


@dataclass(frozen=True)
class Turn:
    """One callback of the loop that took long.

    Parameters
    ----------
    at : float
        When it began, by `time.monotonic`, which all processes of a machine share.
    cpu_s, wall_s : float
        Processor time of the loop's thread, and time that passed.
    what : str
        The callback, or the coroutines of a task with the lines where they are before and after.
    """

    at: float
    cpu_s: float
    wall_s: float
    what: str


def measure_turns(report: int) -> None:
    """Have every callback of this process's event loops timed, and slow ones reported."""
    run = asyncio.Handle._run  # the one place that every callback passes

    def timed(self: asyncio.Handle) -> None:
        before = describe(self)
        at, begin = time.monotonic(), time.thread_time()
        run(self)
        spent = time.thread_time() - begin
        if spent >= REPORT_FROM_S:
            turn = Turn(at, spent, time.monotonic() - at, f"{before}, then {describe(self)}")
            os.write(report, json.dumps(asdict(turn)).encode() + b"\n")

    asyncio.Handle._run = timed  # type: ignore[method-assign]  # what is measured has no hook


def describe(handle: Any) -> str:
    """Name a callback; of a task's step, the coroutines that it is in and their lines."""
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
    """Have a daemon measure its turns when it is started."""
    daemon.program = (sys.executable, "-W", "error", str(Path(__file__)), str(daemon.turns))
    return daemon


def slow_turns(daemon: "Daemon", since: float = 0.0) -> list[Turn]:
    """Give the slow turns that began since a time of `time.monotonic`, the slowest first."""
    lines = daemon.turns.read_text(encoding="utf-8").splitlines()
    turns = [turn for turn in (Turn(**json.loads(line)) for line in lines) if turn.at >= since]
    return sorted(turns, key=lambda turn: -turn.cpu_s)


def assert_no_slow_turn(
    daemon: "Daemon", since: float = 0.0, longest_s: float = LONGEST_TURN_S
) -> None:
    """Fail with what took longest if a turn took longer than it may."""
    turns = [turn for turn in slow_turns(daemon, since) if turn.cpu_s > longest_s]
    shown = "\n".join(f"{turn.cpu_s * 1000:.0f} ms: {turn.what}" for turn in turns[:10])
    assert not turns, f"{len(turns)} turns of the loop took too long:\n{shown}"


def assert_answers_in_time(
    measure: Callable[[], "Lookups"], p99_s: float = P99_S, tries: int = TRIES
) -> "Lookups":
    """Fail if 99 of 100 answers came too late each time that it was measured.

    What takes the daemon too long takes it too long each time; what else the machine does for a
    moment, and is none of its doing, does not.
    """
    found: list[Lookups] = []
    while len(found) < tries:
        found.append(measure())
        if found[-1].p99_s < p99_s:
            return found[-1]
    raise AssertionError("; ".join(map(str, found)))


class Lookups:
    """Asks for one kernel again and again, on one connection, while it is entered.

    A process of its own asks: in ours, other threads that hold the GIL would count as waiting.

    Parameters
    ----------
    daemon : Daemon
        Whom to ask.
    name : str
        What for.
    between_s : float
        Seconds between an answer and the next question.
    """

    def __init__(self, daemon: "Daemon", name: str, between_s: float = BETWEEN_LOOKUPS_S) -> None:
        self.seconds: list[float] = []  # what each took
        self.began = 0.0
        self._command = [
            *(sys.executable, "-I", "-S", __file__, LOOK_UP),
            *(str(daemon.socket), f"/v1/kernels/{quote(name)}", str(between_s)),
        ]

    @property
    def p50_s(self) -> float:
        """The seconds within which half of the answers came."""
        return statistics.median(self.seconds)

    @property
    def p99_s(self) -> float:
        """The seconds within which 99 of 100 answers came."""
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the asking; one that has no answer, or another than 200, is a failure."""
        try:
            found, _ = self._process.communicate(timeout=90)
        finally:
            self._process.kill()
        assert self._process.returncode == 0, "a look-up has failed"
        self.seconds += json.loads(found)


def look_up(path: str, target: str, between_s: float) -> None:
    """Ask until standard input ends, and print how many seconds each answer took."""
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
    """Run the daemon, measured, or look up."""
    if sys.argv[1] == LOOK_UP:
        look_up(sys.argv[2], sys.argv[3], float(sys.argv[4]))
        return 0
    return run_measured()


def run_measured() -> int:
    """Run the daemon, measured."""
    report, *arguments = sys.argv[1:]
    measure_turns(os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
    from kconnd.daemon.main import main as kconnd  # noqa: PLC0415  # measured from its first turn

    return kconnd(arguments)


if __name__ == "__main__":
    sys.exit(main())
