"""What an end waits for, for how long, and what an interrupt may be put down to."""

import signal
from dataclasses import replace
from functools import partial

import pytest

from kconnd.core.kernel.events import (
    Adopted,
    Answered,
    Command,
    DeadlinePassed,
    ExitDelayed,
    Exited,
    Launched,
    RestartRequested,
    StartRequested,
    Step,
    StopRequested,
    TakeStep,
)
from kconnd.core.kernel.interrupts import ENDED_BY_WINDOW_S, ended_by_interrupt, has_no_cell
from kconnd.core.kernel.lifecycle import Desired, Policy, State
from kconnd.core.kernel.record import KernelRecord, parse_record, to_json
from kconnd.core.kernel.stop_delay import (
    MAX_NAMED_PROCESSES,
    Used,
    describe_delay,
    describe_wait,
    is_at_rest,
)
from kconnd.core.kernel.transitions import ENDED_CHILDREN_TIMEOUT_S, decide
from tests.core import samples

POLICY = Policy()
after = partial(samples.after, now=100.0)
RUNNING = after(StartRequested(), Launched(1), Answered(1))
STOPPING = after(StopRequested(busy=False), kernel=RUNNING)
CHILDREN = ExitDelayed(1, "its exited child", children_alone=True, since_request_s=2.0)
LIVE_CHILD = ExitDelayed(1, "its child processes", children_alone=False, since_request_s=2.0)


@pytest.mark.parametrize("stop_timeout", [0.0, 10.0, 60.0])
def test_ended_children_alone_stretch_the_time_for_a_request(stop_timeout: float) -> None:
    policy = Policy(stop_timeout=stop_timeout)
    stopping = after(StopRequested(busy=False), kernel=RUNNING, policy=policy)
    waiting, commands = decide(stopping, CHILDREN, policy, now=102.0)
    assert waiting.deadline == 100.0 + max(stop_timeout, ENDED_CHILDREN_TIMEOUT_S)
    assert (waiting.waits_for, commands) == ("its exited child", ())
    after_that = decide(waiting, DeadlinePassed(), policy, now=140.0)
    assert after_that[1] == (TakeStep(Step.TERMINATE),)
    assert after_that[0].waits_for == ""


def test_anything_else_stretches_nothing() -> None:
    assert after(LIVE_CHILD, kernel=STOPPING).deadline == STOPPING.deadline
    pressed = after(DeadlinePassed(), kernel=STOPPING)
    by_shim = ExitDelayed(1, "its shim", False, 0.0, by_shim=True)  # noqa: FBT003  # children_alone
    waiting = after(by_shim, kernel=pressed)
    assert describe_wait(waiting) == "its shim"
    killed = after(DeadlinePassed(), kernel=waiting)
    assert describe_wait(killed) == "its exit after SIGKILL"
    again = after(by_shim, DeadlinePassed(), kernel=killed)
    assert describe_wait(again) == "its shim", "each further SIGKILL changes nothing"
    assert after(CHILDREN, kernel=pressed) == pressed, "SIGTERM was sent already"
    assert after(replace(CHILDREN, generation=7), kernel=STOPPING) == STOPPING
    assert after(CHILDREN, kernel=RUNNING) == RUNNING


def test_the_next_daemon_waits_as_long_and_asks_nothing_twice() -> None:
    left = after(CHILDREN, kernel=STOPPING)
    saved = parse_record(to_json(KernelRecord("lab", lifecycle=left))).lifecycle
    kernel, commands = decide(saved, Adopted(1), POLICY, now=200.0)
    assert (kernel.deadline, commands) == (200.0 + ENDED_CHILDREN_TIMEOUT_S, ())


def test_a_record_has_the_new_fields_only_while_they_say_something() -> None:
    """A daemon of an earlier version refuses a record with a field that it does not know."""
    saved = to_json(KernelRecord("lab", lifecycle=RUNNING))["lifecycle"]
    assert not {"waits_for", "children_alone"} & saved.keys()


@pytest.mark.parametrize("asked", [StopRequested(now=True), RestartRequested(now=True)])
def test_now_goes_by_signal_also_in_an_end_that_is_under_way(
    asked: StopRequested | RestartRequested,
) -> None:
    desired = Desired.DOWN if isinstance(asked, StopRequested) else Desired.UP
    for kernel in (RUNNING, STOPPING, after(CHILDREN, kernel=STOPPING)):
        pressed, commands = decide(kernel, asked, POLICY, 100.0)
        assert commands == (TakeStep(Step.TERMINATE),)
        assert (pressed.desired, pressed.waits_for) == (desired, "")
        again: tuple[Command, ...] = decide(pressed, asked, POLICY, 100.0)[1]
        assert again == (TakeStep(Step.KILL),)


def test_a_stop_without_now_does_not_press() -> None:
    assert decide(STOPPING, StopRequested(), POLICY, 100.0)[1] == ()
    assert decide(STOPPING, RestartRequested(), POLICY, 100.0)[1] == ()


def test_what_has_ended_waits_for_nothing() -> None:
    waiting = after(CHILDREN, kernel=STOPPING)
    for kernel in (waiting, after(StartRequested(), kernel=waiting)):
        ended = after(Exited(1, "exited with code 0", success=True), kernel=kernel)
        assert (ended.waits_for, ended.children_alone, describe_wait(ended)) == ("", False, None)


def test_each_step_of_a_stop_says_what_it_waits_for() -> None:
    assert describe_wait(RUNNING) is None
    kernel, said = STOPPING, []
    for _ in range(3):
        said.append(describe_wait(kernel))
        kernel = after(DeadlinePassed(), kernel=kernel)
    assert said == [
        "its reply to shutdown_request",
        "its exit after SIGTERM",
        "its exit after SIGKILL",
    ]
    assert describe_wait(after(CHILDREN, kernel=STOPPING)) == "its exited child"


def test_a_delay_in_words() -> None:
    assert describe_delay([], 1, "ipython") == "its exited child; ipykernel 7.4 waits 29 s for it"
    assert describe_delay([], 2, "xeus") == "its 2 exited children"
    assert describe_delay([(7, "sleep")], 2, "ipython") == "its child processes to exit: 7 (sleep)"
    assert describe_delay([], 0, "ipython").startswith("its own exit")
    many = describe_delay([(number, "x") for number in range(50)], 0, "")
    assert (
        many
        == f"its child processes to exit: 0 (x), 1 (x), 2 (x) and {50 - MAX_NAMED_PROCESSES} more"
    )


# --- interrupts


def test_a_kernel_that_starts_runs_no_cell() -> None:
    launching = after(StartRequested())
    starting = after(Launched(1), kernel=launching)
    assert has_no_cell(launching, 1e6, POLICY)
    assert has_no_cell(starting, 1e6, POLICY), "its daemon sees to it that it answers or ends"
    assert not has_no_cell(RUNNING, 0.0, POLICY)
    adopted = after(Adopted(1), kernel=starting)
    assert adopted.state is State.STARTING
    assert has_no_cell(adopted, POLICY.startup_timeout - 1, POLICY)
    assert not has_no_cell(adopted, POLICY.startup_timeout + 1, POLICY), "it may be in a long cell"


@pytest.mark.parametrize(
    ("code", "number", "since"),
    [(0, None, None), (0, None, ENDED_BY_WINDOW_S + 0.1), (None, None, 0.1)]
    + [(None, one.value, 0.1) for one in signal.Signals if one is not signal.SIGINT],
)
def test_no_other_end_is_put_down_to_an_interrupt(
    code: int | None, number: int | None, since: float | None
) -> None:
    assert not ended_by_interrupt(code, number, oom=False, interrupted_s=since)
    assert not ended_by_interrupt(None, signal.SIGINT, oom=True, interrupted_s=0.1)


@pytest.mark.parametrize(("code", "number"), [(0, None), (130, None), (None, signal.SIGINT)])
def test_the_ends_that_kernels_were_seen_to_come_to_by_sigint(
    code: int | None, number: int | None
) -> None:
    assert ended_by_interrupt(code, number, oom=False, interrupted_s=0.1)


@pytest.mark.parametrize(
    ("before", "after", "rests"),
    [
        ({(1, 1): 5.0}, {(1, 1): 5.0}, True),
        ({(1, 1): 5.0, (2, 1): 1.0}, {(1, 1): 5.01, (2, 1): 1.01}, True),
        ({(1, 1): 5.0}, {(1, 1): 5.1}, False),
        ({(1, 1): 5.0, (2, 1): 1.0}, {(1, 1): 5.0}, False),  # a process has exited
        ({(1, 1): 5.0}, {(1, 1): 5.0, (2, 1): 0.0}, False),  # a process has started
        ({}, {}, False),  # they cannot be read
    ],
)
def test_processes_rest_if_they_are_the_same_and_use_no_time(
    before: Used,
    after: Used,
    rests: bool,  # noqa: FBT001  # pytest's way
) -> None:
    assert is_at_rest(before, after, 1.0) is rests
