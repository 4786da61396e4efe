"""How one kernel lives: the table, rule by rule, and what holds on every path through it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.kernel.events import (
    Adopted,
    AdoptionUnanswered,
    Answered,
    CleanUp,
    Command,
    DeadlinePassed,
    Discovered,
    Event,
    ExitDelayed,
    Exited,
    HeartbeatMissed,
    HeartbeatResumed,
    Launch,
    Launched,
    LaunchFailed,
    Lingers,
    MachineRestarted,
    NeverLaunched,
    RestartRequested,
    StartRequested,
    Step,
    StopRequested,
    TakeStep,
    WireRefused,
)
from kconnd.core.kernel.lifecycle import LIVE, Desired, Lifecycle, Policy, State, StopCause
from kconnd.core.kernel.transitions import TABLE, backoff_delay, decide
from tests.core.samples import after

POLICY = Policy()


def test_a_stop_that_was_asked_for_in_a_launch_outlives_the_daemon() -> None:
    asked = after(StartRequested(), StopRequested())
    kernel, commands = decide(asked, Adopted(1), POLICY, 0.0)
    assert (kernel.state, kernel.desired) == (State.STOPPING, Desired.DOWN)
    assert commands == (TakeStep(Step.TERMINATE),)


def test_a_full_disk_is_no_failure_of_a_kernel_that_has_worked() -> None:
    kernel = after(Exited(1, "it crashed"), DeadlinePassed(), kernel=RUNNING)
    for _ in range(20):
        kernel = after(LaunchFailed(kernel.generation, "disk full", passing=True), kernel=kernel)
        assert (kernel.state, kernel.failures) == (State.BACKOFF, 1)
        kernel = after(DeadlinePassed(), kernel=kernel)
        assert kernel.state is State.LAUNCHING
    first = after(StartRequested(), LaunchFailed(1, "disk full", passing=True))
    assert first.state is State.FAILED, "whoever asked is told, and asks again"


RUNNING = after(StartRequested(), Launched(1), Answered(1))


def test_a_start_launches_with_a_new_key() -> None:
    kernel, commands = decide(Lifecycle(), StartRequested(), POLICY, 0.0)
    assert kernel.state is State.LAUNCHING
    assert kernel.desired is Desired.UP
    assert commands == (Launch(1, new_key=True, new_ports=True),)


def test_ready_means_that_it_answered() -> None:
    assert after(StartRequested(), Launched(1)).state is State.STARTING
    assert RUNNING.state is State.RUNNING


def test_a_start_that_dies_before_its_answer_has_failed_and_is_not_tried_again() -> None:
    kernel = after(StartRequested(), Launched(1), Exited(1, "exited with code 1"))
    assert kernel.state is State.FAILED
    assert kernel.reason == "exited with code 1, before it was ready"


def test_at_boot_nobody_is_there_to_try_again_so_it_is_tried_again() -> None:
    kernel = after(StartRequested(at_boot=True), Launched(1), Exited(1, "exited with code 1"))
    assert kernel.state is State.BACKOFF


def test_a_death_while_running_is_followed_by_backoff_and_a_launch_with_the_same_key() -> None:
    kernel, commands = decide(RUNNING, Exited(1, "killed by SIGKILL"), POLICY, now=100.0)
    assert kernel.state is State.BACKOFF
    assert commands == ()
    assert kernel.deadline == pytest.approx(100.5)
    kernel, commands = decide(kernel, DeadlinePassed(), POLICY, now=101.0)
    assert kernel.restarts == 1
    assert commands == (Launch(2, new_key=False),)


def test_a_kernel_that_ends_itself_well_stays_down() -> None:
    kernel = after(Exited(1, "exited with code 0", success=True), kernel=RUNNING)
    assert (kernel.state, kernel.desired) == (State.STOPPED, Desired.DOWN)


ORDER = Exited(1, "stopped by the administrator", ordered=True)


@pytest.mark.parametrize("restart", ["no", "on-failure", "always"])
@pytest.mark.parametrize(
    "kernel",
    [
        after(StartRequested(at_boot=True), Launched(1)),
        RUNNING,
        after(RestartRequested(), kernel=RUNNING),
        after(StopRequested(), StartRequested(), kernel=RUNNING),
        after(HeartbeatMissed(1), kernel=RUNNING, policy=Policy(restart_unresponsive=True)),
    ],
    ids=lambda kernel: f"{kernel.state}-{kernel.stop_cause}",
)
def test_an_administrators_order_goes_before_every_policy(kernel: Lifecycle, restart: str) -> None:
    outcome, commands = decide(kernel, ORDER, Policy(restart=restart), 0.0)
    assert (outcome.state, outcome.desired, commands) == (State.STOPPED, Desired.DOWN, (CleanUp(),))
    assert outcome.reason == "stopped by the administrator"


def test_policy_always_brings_it_back_even_then() -> None:
    policy = Policy(restart="always")
    kernel = after(Exited(1, "exited with code 0", success=True), kernel=RUNNING, policy=policy)
    assert kernel.state is State.BACKOFF


def test_policy_no_leaves_it_failed() -> None:
    kernel = after(Exited(1, "killed"), kernel=RUNNING, policy=Policy(restart="no"))
    assert kernel.state is State.FAILED


def test_too_many_failures_in_a_row_are_given_up_with_the_reason() -> None:
    kernel = RUNNING
    for generation in range(1, POLICY.max_failures + 1):
        kernel = after(Exited(generation, "killed"), DeadlinePassed(), kernel=kernel)
        kernel = after(Launched(generation + 1), Answered(generation + 1), kernel=kernel)
        assert kernel.state is State.RUNNING
    kernel = after(Exited(kernel.generation, "killed"), kernel=kernel)
    assert kernel.state is State.FAILED
    assert kernel.reason == "killed; 6 failures in a row"


def test_a_stable_run_forgets_the_failures() -> None:
    kernel = after(Exited(1, "killed"), DeadlinePassed(), Launched(2), Answered(2), kernel=RUNNING)
    assert kernel.failures == 1
    assert kernel.deadline == POLICY.stable_after
    assert after(DeadlinePassed(), kernel=kernel).failures == 0


def test_a_stop_escalates_step_by_step_and_ends_when_all_is_gone() -> None:
    kernel, commands = decide(RUNNING, StopRequested(busy=True), POLICY, 0.0)
    steps: list[Command] = list(commands)
    for _ in range(4):
        kernel, commands = decide(kernel, DeadlinePassed(), POLICY, 0.0)
        steps.extend(commands)
    assert steps == [TakeStep(step) for step in (*Step, Step.KILL)]
    kernel, commands = decide(kernel, Exited(1, "killed by SIGKILL"), POLICY, 0.0)
    assert (kernel.state, commands) == (State.STOPPED, (CleanUp(),))
    assert kernel.reason == "stop was requested; it took SIGKILL"


def test_an_idle_kernel_is_not_interrupted_first() -> None:
    assert decide(RUNNING, StopRequested(busy=False), POLICY, 0.0)[1] == (TakeStep(Step.SHUTDOWN),)


def test_all_restarts_are_counted_also_those_before_a_stop() -> None:
    ended = "exited with code 0"
    kernel = after(RestartRequested(), Exited(1, ended), Launched(2), Answered(2), kernel=RUNNING)
    kernel = after(StopRequested(), Exited(2, ended), StartRequested(), kernel=kernel)
    assert (kernel.generation, kernel.restarts) == (3, 1)
    kernel = after(Launched(3), Answered(3), Exited(3, "killed"), DeadlinePassed(), kernel=kernel)
    assert (kernel.generation, kernel.restarts) == (4, 2)


def test_a_kernel_that_stays_after_its_reply_is_signalled_unless_patience_is_asked_for() -> None:
    stopping = after(StopRequested(busy=False), kernel=RUNNING)
    kernel, commands = decide(stopping, Lingers(1), POLICY, 2.0)
    assert (kernel.step, commands) == (Step.TERMINATE, (TakeStep(Step.TERMINATE),))
    assert decide(stopping, Lingers(1), Policy(stop_timeout=60), 2.0) == (stopping, ())
    assert decide(kernel, Lingers(1), POLICY, 2.0) == (kernel, ())


def test_only_a_restart_with_the_same_connection_is_announced_as_one() -> None:
    def request(*events: Event) -> Command:
        kernel = RUNNING
        commands: tuple[Command, ...] = ()
        for event in events:
            kernel, commands = decide(kernel, event, POLICY, 0.0)
        return commands[0]

    announced, silent = TakeStep(Step.SHUTDOWN, restart=True), TakeStep(Step.SHUTDOWN)
    assert request(RestartRequested(busy=False)) == announced
    assert request(RestartRequested(busy=True), DeadlinePassed()) == announced
    assert request(RestartRequested(busy=False), Adopted(1)) == announced
    assert request(RestartRequested(busy=False, new_key=True)) == silent
    assert request(StopRequested(busy=False)) == silent
    assert request(RestartRequested(busy=True), StopRequested(), DeadlinePassed()) == silent
    assert request(RestartRequested(now=True)) == TakeStep(Step.TERMINATE)


def test_a_restart_keeps_the_key_unless_a_new_one_is_asked_for() -> None:
    for new_key in (False, True):
        kernel = after(RestartRequested(busy=False, new_key=new_key), kernel=RUNNING)
        assert kernel.stop_cause is StopCause.RESTART
        kernel, commands = decide(kernel, Exited(1, "exited with code 0"), POLICY, 0.0)
        assert kernel.state is State.LAUNCHING
        assert commands == (Launch(2, new_key=new_key),)


def test_a_restart_of_what_is_down_is_a_start_with_a_new_key() -> None:
    failed = after(Exited(1, "killed"), kernel=RUNNING, policy=Policy(restart="no"))
    for kernel in (Lifecycle(), failed):
        outcome, commands = decide(kernel, RestartRequested(), POLICY, 0.0)
        again = Launch(kernel.generation + 1, new_key=True, new_ports=True)
        assert commands == (again,)
        assert (outcome.restarts, outcome.failures, outcome.proved) == (0, 0, False)


def test_a_stop_during_the_launch_changes_the_wish_and_the_fact_follows() -> None:
    kernel = after(StartRequested(), StopRequested())
    assert (kernel.state, kernel.desired) == (State.LAUNCHING, Desired.DOWN)
    kernel, commands = decide(kernel, Launched(1), POLICY, 0.0)
    assert (kernel.state, commands) == (State.STOPPING, (TakeStep(Step.TERMINATE),))


def test_a_start_during_the_stop_brings_it_up_again_with_a_new_key() -> None:
    kernel = after(StopRequested(), StartRequested(), kernel=RUNNING)
    kernel, commands = decide(kernel, Exited(1, "exited with code 0"), POLICY, 0.0)
    assert commands == (Launch(2, new_key=True),)


def test_a_stop_during_the_restart_wins() -> None:
    kernel = after(RestartRequested(), StopRequested(), Exited(1, "exited"), kernel=RUNNING)
    assert kernel.state is State.STOPPED


def test_no_answer_in_time_is_a_failed_start() -> None:
    kernel = after(StartRequested(), Launched(1), DeadlinePassed())
    assert kernel.state is State.STOPPING
    kernel = after(Exited(1, "killed by SIGTERM"), kernel=kernel)
    assert kernel.state is State.FAILED
    assert kernel.reason.startswith("no answer to kernel_info_request within 60 s")


def test_taken_ports_are_changed_five_times_and_are_no_restart() -> None:
    kernel = after(StartRequested(), Launched(1))
    for generation in range(1, 6):
        event = Exited(generation, "exited with code 1", ports_taken=True)
        kernel, commands = decide(kernel, event, POLICY, 0.0)
        assert commands == (Launch(generation + 1, new_ports=True),)
        kernel = after(Launched(generation + 1), kernel=kernel)
    assert kernel.restarts == 0
    kernel = after(Exited(6, "exited with code 1", ports_taken=True), kernel=kernel)
    assert kernel.state is State.FAILED


REFUSED = WireRefused(1, "it listens elsewhere", may_fall_back=True)


def test_a_refused_trial_is_stopped_and_launched_again_on_plain_tcp() -> None:
    refused, commands = decide(after(StartRequested(), Launched(1)), REFUSED, POLICY, 0.0)
    assert (refused.state, refused.desired) == (State.STOPPING, Desired.UP)
    assert commands == (TakeStep(Step.TERMINATE),)
    fallback, commands = decide(refused, Exited(1, "killed by SIGTERM"), POLICY, 0.0)
    assert commands == (Launch(2, new_ports=True, fallback=True),)
    assert (fallback.restarts, fallback.failures, fallback.fallback) == (0, 0, False)
    assert fallback.reason.startswith("it listens elsewhere; trying plain tcp")


def test_a_trial_that_ends_the_kernel_is_followed_by_plain_tcp_at_once() -> None:
    for events in ((), (Launched(1),)):
        kernel = after(StartRequested(), *events)
        event = Exited(1, "exited with code 1", trial_failed=True)
        fallback, commands = decide(kernel, event, POLICY, 0.0)
        assert fallback.state is State.LAUNCHING
        assert commands == (Launch(2, new_ports=True, fallback=True),)
        failed = after(Launched(2), Exited(2, "exited with code 1"), kernel=fallback)
        assert failed.state is State.FAILED


def test_a_stop_during_a_trial_wins() -> None:
    kernel = after(StartRequested(), Launched(1), REFUSED, StopRequested())
    assert after(Exited(1, "killed by SIGTERM"), kernel=kernel).state is State.STOPPED
    stopped = after(StartRequested(), StopRequested(), Exited(1, "exited", trial_failed=True))
    assert stopped.state is State.STOPPED


def test_a_wire_that_the_profile_asks_for_and_the_kernel_refuses_is_a_failed_start() -> None:
    kernel = after(StartRequested(), Launched(1), WireRefused(1, "it listens elsewhere"))
    failed = after(Exited(1, "killed by SIGTERM"), kernel=kernel)
    assert failed.state is State.FAILED
    assert "it listens elsewhere" in failed.reason


def test_missed_heartbeats_end_nothing_unless_the_profile_says_so() -> None:
    kernel, commands = decide(RUNNING, HeartbeatMissed(1), POLICY, 0.0)
    assert (kernel.state, kernel.unresponsive, commands) == (State.RUNNING, True, ())
    assert not after(HeartbeatResumed(1), kernel=kernel).unresponsive
    policy = Policy(restart_unresponsive=True)
    kernel, commands = decide(RUNNING, HeartbeatMissed(1), policy, 0.0)
    assert commands == (TakeStep(Step.TERMINATE),)
    assert after(Exited(1, "killed"), kernel=kernel, policy=policy).state is State.BACKOFF


def test_a_new_daemon_goes_on_where_the_old_one_was() -> None:
    assert after(Adopted(1), kernel=RUNNING).state is State.RUNNING
    assert after(StartRequested(), Adopted(1)).state is State.STARTING
    stopping = after(StopRequested(busy=False), kernel=RUNNING)
    assert decide(stopping, Adopted(1), POLICY, 0.0)[1] == (TakeStep(Step.SHUTDOWN),)


def test_a_launch_that_never_came_to_be_is_made_up_for_with_the_key_it_was_to_have() -> None:
    kernel = after(StartRequested())
    assert decide(kernel, NeverLaunched(1), POLICY, 0.0)[1] == (Launch(1, new_key=True),)


def test_after_a_restart_of_the_machine_it_is_lost_and_not_started() -> None:
    kernel, commands = decide(RUNNING, MachineRestarted(1), POLICY, 0.0)
    assert (kernel.state, commands) == (State.LOST, (CleanUp(),))
    assert kernel.reason == "the machine restarted"


def test_an_end_that_nobody_saw_is_lost_not_failed() -> None:
    event = Exited(1, "ended, and nobody saw how", lost=True)
    assert after(event, kernel=RUNNING, policy=Policy(restart="no")).state is State.LOST


def test_a_failed_launch_of_a_start_tells_why() -> None:
    kernel = after(StartRequested(), LaunchFailed(1, "no such interpreter"))
    assert (kernel.state, kernel.desired) == (State.FAILED, Desired.UP)
    assert kernel.reason == "no such interpreter"


def generations(kernel: Lifecycle) -> st.SearchStrategy[int]:
    return st.sampled_from([kernel.generation, kernel.generation, kernel.generation - 1])


@st.composite
def event_after(draw: st.DrawFn, kernel: Lifecycle) -> Event:
    """Draw any event, mostly of the present generation."""
    generation = draw(generations(kernel))
    flags = {
        name: draw(st.booleans()) for name in ("success", "lost", "ports_taken", "trial_failed")
    }
    events: list[Event] = [
        StartRequested(),
        StartRequested(at_boot=True),
        StopRequested(),
        StopRequested(now=True),
        RestartRequested(),
        RestartRequested(new_key=True),
        RestartRequested(now=True),
        ExitDelayed(generation, "its exited child", draw(st.booleans()), 1.0),
        Lingers(generation),
        Launched(generation),
        LaunchFailed(generation, "no"),
        Answered(generation),
        Exited(generation, "ended", **flags),
        Exited(generation, "ordered", ordered=True),
        WireRefused(generation, "it does not speak it", draw(st.booleans())),
        HeartbeatMissed(generation),
        HeartbeatResumed(generation),
        DeadlinePassed(),
        Adopted(generation),
        AdoptionUnanswered(generation),
        NeverLaunched(generation),
        MachineRestarted(generation),
    ]
    return draw(st.sampled_from(events))


POLICIES = st.builds(
    Policy,
    restart=st.sampled_from(["no", "on-failure", "always"]),
    max_failures=st.integers(0, 3),
    restart_unresponsive=st.booleans(),
)


@given(st.data(), POLICIES)
def test_on_every_path(data: st.DataObject, policy: Policy) -> None:
    """What must hold whatever happens, in whatever order."""
    kernel = Lifecycle()
    for now in range(data.draw(st.integers(1, 40))):
        event = data.draw(event_after(kernel))
        if isinstance(event, DeadlinePassed) and kernel.deadline is None:
            continue
        before = kernel
        kernel, commands = decide(kernel, event, policy, float(now))
        check_one_process(before, kernel, commands, event)
        check_deadlines(kernel, event, float(now))
        check_nobody_ends_it_unasked(before, kernel, event, policy)
        if getattr(event, "generation", before.generation) != before.generation:
            assert (kernel, commands) == (before, ())


def check_one_process(
    before: Lifecycle, after: Lifecycle, commands: tuple[Command, ...], event: Event
) -> None:
    """A launch happens only where there is no process, and each has a generation of its own."""
    assert after.generation - before.generation in {0, 1}
    launches = [command for command in commands if isinstance(command, Launch)]
    assert len(launches) <= 1
    if launches:
        assert after.state is State.LAUNCHING
        assert launches[0].generation == after.generation
        ended = isinstance(event, Exited | NeverLaunched)
        assert ended or before.state not in LIVE


def check_deadlines(kernel: Lifecycle, event: Event, now: float) -> None:
    """What waits for something waits for a limited time; what rests waits for nothing.

    Only an adopted kernel's first answer is waited for without a limit.
    """
    adopted = isinstance(event, Adopted) or "adopted" in kernel.reason
    if kernel.state in {State.STOPPING, State.BACKOFF} or (
        kernel.state is State.STARTING and not adopted
    ):
        assert kernel.deadline is not None
        assert kernel.deadline >= now - 40
    if kernel.state in {State.STOPPED, State.FAILED, State.LOST}:
        assert kernel.deadline is None
        assert kernel.step is None
    assert (kernel.state is State.STOPPING) == (kernel.stop_cause is not None)


def check_nobody_ends_it_unasked(
    before: Lifecycle, after: Lifecycle, event: Event, policy: Policy
) -> None:
    """A running kernel is stopped by a request, or by a heartbeat where the profile says so."""
    if before.state is State.RUNNING and after.state is State.STOPPING:
        asked = isinstance(event, StopRequested | RestartRequested)
        assert asked or (isinstance(event, HeartbeatMissed) and policy.restart_unresponsive)


@given(POLICIES, st.integers(1, 200), st.floats(0, 1))
def test_backoff_grows_and_has_a_limit(policy: Policy, failures: int, roll: float) -> None:
    delay = backoff_delay(failures, policy, roll)
    assert 0 < delay <= policy.backoff_max
    assert backoff_delay(failures + 2, policy, roll) >= delay


def test_each_row_is_of_a_state_and_an_event_that_can_meet() -> None:
    handled = {event for _, event in TABLE}
    assert handled == set(Event.__args__)
    for state in LIVE:
        assert (state, StopRequested) in TABLE, f"a {state} kernel must hear a stop"
    assert replace(RUNNING, reason="") == replace(after(Launched(1), kernel=RUNNING), reason="")


def test_what_was_adopted_before_its_first_answer_gets_all_the_time_that_it_needs() -> None:
    """While no daemon looked it may have got ready, and be in somebody's long cell."""
    for left in (after(StartRequested()), after(StartRequested(), Launched(1))):
        kernel = after(Adopted(1), kernel=left)
        assert (kernel.state, kernel.deadline) == (State.STARTING, None)
        assert after(Answered(1), kernel=kernel).state is State.RUNNING


@pytest.mark.parametrize("policy", [Policy(), Policy(restart_unresponsive=True)])
def test_an_adopted_kernel_that_is_silent_is_unresponsive_and_no_more(policy: Policy) -> None:
    kernel, commands = decide(RUNNING, AdoptionUnanswered(1), policy, 0.0)
    assert (kernel.state, kernel.unresponsive, commands) == (State.RUNNING, True, ())
    assert not after(HeartbeatResumed(1), kernel=kernel).unresponsive


@pytest.mark.parametrize("state", State)
def test_a_process_that_nobody_knew_of_is_taken_up_as_it_is(state: State) -> None:
    kernel, commands = decide(Lifecycle(state=state, generation=2), Discovered(7), POLICY, 0.0)
    assert (kernel.state, kernel.desired, kernel.generation) == (State.RUNNING, Desired.UP, 7)
    assert (kernel.deadline, commands) == (None, ())


def test_each_step_of_a_restart_has_its_own_reason() -> None:
    kernel = Lifecycle(state=State.RUNNING, desired=Desired.UP, generation=1, proved=True)
    reasons = []
    for event in (Exited(1, "killed by SIGKILL"), DeadlinePassed(), Launched(2), Answered(2)):
        kernel, _ = decide(kernel, event, Policy(), 0.0)
        reasons.append(kernel.reason)
    assert reasons == [
        "killed by SIGKILL",
        "the back-off time is over",
        "its process was spawned",
        "it answered kernel_info_request",
    ]
