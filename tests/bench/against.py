"""``scripts/bench --against REVISION``: the present build and an earlier one, in one run.

``scripts/bench`` installs both builds in the same way, each into an environment of its own with the
same versions of everything else, and names their interpreters. Both daemons run throughout; each
figure is measured in turns, first of one and then of the other, and given as the ratio of the
present build to the earlier one. So what else the machine does falls on both.
"""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import psutil

from tests.bench.asking import time_command
from tests.bench.keeping import LOOKS_S, adopt, kill_one
from tests.bench.processes import private, ran, wait_until_idle
from tests.bench.results import Result, Rounds, ratio, table
from tests.bench.subjects import Kconnd, at_once, end_all

PRESENT, EARLIER = "present", "earlier"
# 0.1.0 replaced parts of the user's kernel to save 5 ms of each forked start, which stock parts may
# cost: of 24 ms for a start, and of 50 ms for a death, which ends with a forked start.
ALLOWED = {"50 forks at once": 1.16, "start, fork": 1.2, "a death until it runs again": 1.12}
NOISE = 1.1  # a ratio up to which a difference is not told from the noise of a shared machine
MANY = 50  # kernels started at once, and adopted at once
BASE_S = 0.05  # processor time of an idle daemon is measured over seconds: see `_idle`

Subjects = Mapping[str, Kconnd]
Measure = Callable[[Kconnd], float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 where the present build is worse than the noise and what is allowed."""
    options = parse(arguments)
    results: list[Result] = []
    with contextlib.ExitStack() as stack:
        builds = {PRESENT: options.present, EARLIER: options.earlier}
        subjects = {
            name: stack.enter_context(Kconnd("cold", "fork", "warm", "again", build=build))
            for name, build in builds.items()
        }
        for result in compare(subjects, quick=options.quick):
            print(table([result]), flush=True)
            results.append(result)
    return 1 if any(result.met is False for result in results) else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, to which ``scripts/bench`` has added the two builds."""
    parser = argparse.ArgumentParser("scripts/bench --against REVISION", description=__doc__)
    parser.add_argument("present", type=Path, help="the bin folder of the present build")
    parser.add_argument("earlier", type=Path, help="that of the earlier one")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    return parser.parse_args(arguments)


def compare(subjects: Subjects, *, quick: bool) -> Iterator[Result]:
    """Measure everything in turns; yields the ratios of the present build to the earlier one."""
    few, some, more = (2, 3, 10) if quick else (6, 15, 60)
    # Fifty kernels wait for a disk to write their histories, so single rounds differ by a quarter.
    many = 6 if quick else 12
    with _kernels(subjects, "cold"):
        yield _ratio("kconnd-ctl info", _in_turns(subjects, more, _look_up))
    for kind in ("cold", "fork", "warm"):
        yield _ratio(f"start, {kind}", _in_turns(subjects, some, partial(_start, kind=kind)))
    yield _ratio("a death until it runs again", _in_turns(subjects, some, _death))
    yield _ratio(f"{MANY} forks at once", _in_turns(subjects, many, _many))
    with _kernels(subjects, "fork"):
        yield _ratio(
            "memory of a forked kernel and its shim", _in_turns(subjects, few, _kernel_memory)
        )
    with contextlib.ExitStack() as stack:
        for subject in subjects.values():
            started = at_once(partial(subject.start, "fork"), MANY)
            stack.callback(end_all, started)
        yield _ratio(f"daemon's memory, {MANY} kernels", _in_turns(subjects, 1, _daemon_memory))
        yield _ratio(f"daemon's idle time, {MANY} kernels", _in_turns(subjects, few, _idle))
        yield _ratio(f"{MANY} kernels adopted after kill -9", _in_turns(subjects, few, adopt))


def _ratio(name: str, rounds: Rounds) -> Result:
    return ratio(name, rounds, PRESENT, EARLIER, f"<= {ALLOWED.get(name, NOISE)}")


def _in_turns(subjects: Subjects, rounds: int, measure: Measure) -> Rounds:
    """Measure each build once per round, in the opposite order in every other round."""
    names = list(subjects)
    taken: list[dict[str, float]] = []
    for _ in range(rounds):
        taken.append({})
        for name in names:
            if not wait_until_idle():
                print("the machine is busy: the next figure says little", file=sys.stderr)
            taken[-1][name] = measure(subjects[name])
        names.reverse()
    return taken


@contextlib.contextmanager
def _kernels(subjects: Subjects, kind: str) -> Iterator[None]:
    """Have one kernel of each build run meanwhile."""
    with contextlib.ExitStack() as stack:
        for subject in subjects.values():
            stack.callback(subject.start(kind).end)
        yield


def _look_up(subject: Kconnd) -> float:
    environment = {**os.environ, "KCONND_SOCKET": str(subject.daemon.socket)}
    return time_command([str(subject.bin / "kconnd-ctl"), "info", "cold@0"], environment)


def _start(subject: Kconnd, kind: str) -> float:
    started = subject.start(kind)
    started.end()
    return started.seconds


def _death(subject: Kconnd) -> float:
    _, again = kill_one(subject)
    return again


def _many(subject: Kconnd) -> float:
    started = at_once(partial(subject.start, "fork"), MANY)
    end_all(started)
    if started.failures:
        raise RuntimeError(f"not all of {MANY} kernels came up: {started.failures[0]}")
    return started.seconds


def _kernel_memory(subject: Kconnd) -> float:
    name = next(name for name in subject.names if name.startswith("fork"))
    return sum(map(private, (subject.daemon.info(name)["pid"], subject.daemon.shim_of(name).pid)))


def _daemon_memory(subject: Kconnd) -> float:
    size: int = psutil.Process(_pid(subject)).memory_info().rss
    return size / 2**20


def _idle(subject: Kconnd) -> float:
    """Give the processor time that a daemon takes in five seconds, and a floor for the ratio."""
    time.sleep(LOOKS_S)
    before = ran(_pid(subject))
    time.sleep(5)
    return ran(_pid(subject)) - before + BASE_S


def _pid(subject: Kconnd) -> int:
    assert subject.daemon.process is not None  # it runs
    return subject.daemon.process.pid


if __name__ == "__main__":
    sys.exit(main())
