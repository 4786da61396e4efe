"""Parts about starting: one kernel, many at once, and what each takes once it runs.

All ways are taken in turns, so that what else the machine does falls on all of them.
"""

import asyncio
import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from tests.bench import others
from tests.bench.others import JupyterServer
from tests.bench.processes import private, ran, wait_until_idle
from tests.bench.results import (
    START,
    Result,
    Rounds,
    difference_in_ms,
    in_ms,
    median,
    ratio,
    spread_of,
    values_of,
)
from tests.bench.subjects import AtOnce, Kconnd, Started, Way, at_once, end_all

WARM, REPLY = "kconnd, warm", "kconnd, warm, to a new client's first reply"
FORK, COLD = "kconnd, fork", "kconnd, cold"
PLAIN, SERVER = "python -m ipykernel_launcher", "Jupyter server, REST"
MANAGER, MANAGERS = "AsyncKernelManager", "AsyncMultiKernelManager"


@contextlib.contextmanager
def all_ways(*kinds: str, server: bool = True) -> Iterator[dict[str, Way]]:
    """Prepare all ways to start a kernel, kconnd's with these profiles."""
    with contextlib.ExitStack() as stack:
        kconnd = stack.enter_context(Kconnd(*kinds))
        folder = stack.enter_context(others.jupyters_runtime())
        ours = {WARM: "warm", FORK: "fork", COLD: "cold"}
        ways: dict[str, Way] = {
            **{name: partial(kconnd.start, kind) for name, kind in ours.items() if kind in kinds},
            PLAIN: partial(others.plain_ipykernel, folder),
            MANAGER: others.kernel_manager,
        }
        if server:
            ways[SERVER] = stack.enter_context(JupyterServer()).start
        if "warm" in kinds:
            ways[REPLY] = partial(kconnd.start, "warm", ask=True)
        yield ways


# --- one after the other


def starts(*, quick: bool) -> Iterator[Result]:
    """One kernel after the other, by each way in turn."""
    with all_ways("warm", "fork", "cold") as ways:
        rounds = list(_take_turns(ways, 4 if quick else 15))
        # A machine that others share does more to either of these than what they differ by.
        pairs = list(_take_turns({one: ways[one] for one in (COLD, PLAIN)}, 4 if quick else 45))
    for name, target in START_TARGETS.items():
        # who asks for a warm kernel gets one that has answered before: no reply is waited for
        told = f"{name}, until handed over" if name == WARM else name
        yield in_ms(START + told, values_of(rounds, name), target)
    more = "cold start, more than plain ipykernel"
    yield difference_in_ms(more, [*rounds, *pairs], COLD, PLAIN, "<= 25")
    yield ratio("cold start / AsyncKernelManager", rounds, COLD, MANAGER, "<= 0.75")
    yield ratio("fork start / AsyncKernelManager", rounds, FORK, MANAGER, "<= 0.08")
    yield ratio("warm start, to a first reply / AsyncKernelManager", rounds, REPLY, MANAGER)


def _take_turns(ways: Mapping[str, Way], rounds: int) -> Iterator[dict[str, float]]:
    """Start a kernel by each way, there and back: what one leaves behind is not one other's lot."""
    names = list(ways)
    for _ in range(rounds):
        taken: dict[str, float] = {}
        for name in names:
            wait_until_idle()
            started = ways[name]()
            taken[name] = started.seconds
            started.end()
        yield taken
        names.reverse()


START_TARGETS = {
    WARM: "< 10",
    REPLY: "<= 15",
    FORK: "<= 50",
    COLD: "",
    PLAIN: "",
    MANAGER: "",
    SERVER: "",
}  # in the order in which they are shown


# --- many at once


def many(*, quick: bool) -> Iterator[Result]:
    """Fifty at once; a round counts where all of them came up.

    There is no figure for warm kernels: those that are kept are ready before they are asked
    for, and any more are forked kernels.
    """
    runs, every = (2, 2) if quick else (20, 4)
    names = QUICK_MANY if quick else MANY
    rounds: list[dict[str, float]] = []
    failures: dict[str, list[int]] = {name: [] for name in names}
    kinds = ("fork",) if quick else ("fork", "cold")
    with all_ways(*kinds, server=SERVER in names) as ways:
        for number in range(runs):
            rounds.append({})
            for name in names if number % every == 0 else (FORK,):
                found = _start_many(ways, name)
                failures[name].append(len(found.failures))
                if not found.failures:
                    rounds[-1][name] = found.seconds
    yield from many_results(rounds, failures)


COUNT = 50
QUICK_MANY = (FORK, MANAGERS)  # the ratio that has a target; the others take half a minute
MANY = (FORK, COLD, MANAGERS, PLAIN, SERVER)
RUNS = 20  # that are to be without a failure


def _start_many(ways: Mapping[str, Way], name: str) -> AtOnce:
    wait_until_idle()
    if name == MANAGERS:
        found = asyncio.run(others.many_by_manager(COUNT))
    else:
        found = at_once(ways[name], COUNT)
        end_all(found)
    if found.failures:
        print(f"{COUNT} at once, {name}: {found.failures[0]}", file=sys.stderr)
    return found


def many_results(rounds: Rounds, failures: Mapping[str, Sequence[int]]) -> Iterator[Result]:
    """Give the failures first, which are there also where no round is without them."""
    for name, found in failures.items():
        # that none fails in a few runs is not what is asked for; that some do is an answer
        judged = name == FORK and (len(found) >= RUNS or sum(found) > 0)
        runs = f"{len(found)} run" + "s" * (len(found) > 1)
        told = f"{COUNT} at once, failures in {runs}: {name}"
        yield Result(told, sum(found), "", "<= 0" if judged else "", spread_of(found))
    for name in failures:
        if taken := values_of(rounds, name):
            yield in_ms(f"{COUNT} at once: {name}", taken)
    name = f"{COUNT} at once: fork / AsyncMultiKernelManager"
    yield ratio(name, rounds, FORK, MANAGERS, "<= 0.12")


# --- what a kernel takes


def costs(*, quick: bool) -> Iterator[Result]:
    """Processor time and memory of each kernel, and of its shim where it has one."""
    with all_ways("warm", "fork", "cold") as ways, contextlib.ExitStack() as stack:
        del ways[REPLY]
        taken = [_take_costs(ways, stack) for _ in range(2 if quick else 10)]
        # once all run, since what one shares with others is nobody's own
        rounds = [{**times, **dict(_memory(started))} for times, started in taken]
    for what, unit in COSTS.items():
        for name in ways:
            if values := values_of(rounds, f"{what}: {name}"):
                yield median(f"{what}: {name}", values, unit)
    for what, target in ((MEMORY, "<= 0.42"), (MEMORY_OF_BOTH, "")):
        one, other = f"{what}: {FORK}", f"{what}: {COLD}"
        yield ratio(f"{what}: fork / cold", rounds, one, other, target)
    one, other = f"{TIME}: {FORK}", f"{TIME}: {COLD}"
    yield ratio(f"{TIME}: fork / cold", rounds, one, other)


TIME = "processor time until ready"  # of a shim, too
MEMORY, MEMORY_OF_BOTH = "memory of its own", "memory of its own, with its shim's"
COSTS = {TIME: "ms", MEMORY: "MB", MEMORY_OF_BOTH: "MB"}


def _take_costs(
    ways: Mapping[str, Way], stack: contextlib.ExitStack
) -> tuple[dict[str, float], dict[str, Started]]:
    """Start a kernel by each way; gives what time they took, and them."""
    times: dict[str, float] = {}
    started: dict[str, Started] = {}
    for name, way in ways.items():
        started[name] = way()
        stack.callback(started[name].end)
        times[f"{TIME}: {name}"] = sum(map(ran, started[name].find())) * 1000
    return times, started


def _memory(started: Mapping[str, Started]) -> Iterator[tuple[str, float]]:
    for name, one in started.items():
        sizes = [private(pid) for pid in one.find()]
        yield f"{MEMORY}: {name}", sizes[0]
        if len(sizes) > 1:
            yield f"{MEMORY_OF_BOTH}: {name}", sum(sizes)
