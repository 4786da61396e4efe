"""The transition table of a kernel: decides the next state and the commands for each event.

`decide` is a function of its arguments: no I/O, no clock, no random number. Every decision to
start, stop or restart a kernel is made in this module. `TABLE` holds one function for each pair of
state and event; a pair without a row changes nothing. The head of `kconnd.core.kernel.lifecycle`
has the state diagram. The module is long because all transitions are on one page, so nobody has to
search other modules for a reason to stop a kernel.

Rules. An event of another generation is about an earlier process and changes nothing. A live kernel
is stopped on request or because of a setting of its profile, and for no other reason. A process
that has never answered does not count as a live kernel.
"""

from collections.abc import Callable
from dataclasses import replace

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
from kconnd.core.kernel.lifecycle import (
    LIVE,
    Desired,
    Lifecycle,
    Policy,
    State,
    StopCause,
)

# The limit of consecutive launches with new ports after other programs used the chosen ports.
MAX_PORT_TRIES = 5
# After a passing failure, such as a full disk, the wait is as long as after 4 failures.
PASSING_FAILURE_WEIGHT = 4
INTERRUPT_TIMEOUT_S = 1.0  # the time for a running cell to clean up after its interrupt
TERMINATE_TIMEOUT_S = 5.0  # the wait between SIGTERM and SIGKILL
KILL_INTERVAL_S = 5.0  # SIGKILL is repeated, because processes may have forked in between
# ipykernel 7.4 waits 29 s for zombies: children that have exited and that the kernel has not
# collected. The kernel's atexit functions run after this wait, and SIGTERM would skip them. Users
# save work in atexit functions.
ENDED_CHILDREN_TIMEOUT_S = 35.0
DEFAULT_STOP_TIMEOUT_S = Policy().stop_timeout

Outcome = tuple[Lifecycle, tuple[Command, ...]]


def decide(kernel: Lifecycle, event: Event, policy: Policy, now: float) -> Outcome:
    """Decide what an event means for a kernel.

    Parameters
    ----------
    kernel : Lifecycle
        The kernel before the event.
    event : Event
        The event.
    policy : Policy
        The rules of the kernel's profile.
    now : float
        The present time in monotonic seconds.

    Returns
    -------
    tuple
        The kernel after the event, and the commands. The caller saves the kernel before it runs the
        commands.
    """
    if getattr(event, "generation", kernel.generation) != kernel.generation:
        return kernel, ()
    transition = TABLE.get((kernel.state, type(event)))
    return transition(kernel, event, policy, now) if transition else (kernel, ())


def backoff_delay(failures: int, policy: Policy, roll: float) -> float:
    """Return the wait before a retry, in seconds.

    The wait doubles with each failure; ``roll``, from 0 to 1, adds jitter.
    """
    doubled = policy.backoff * 2.0 ** min(failures - 1, 60)
    return min(policy.backoff_max, doubled * (0.75 + 0.5 * roll))


# --- transitions, in the order of a kernel's life


def _start(
    kernel: Lifecycle, event: StartRequested | RestartRequested, _policy: Policy, _now: float
) -> Outcome:
    generation = kernel.generation + 1
    at_boot = isinstance(event, StartRequested) and event.at_boot
    fresh = Lifecycle(
        state=State.LAUNCHING,
        desired=Desired.UP,
        generation=generation,
        restarts=kernel.restarts,
        proved=at_boot,
        new_key=True,
        reason="started at boot" if at_boot else "start was requested",
    )
    return fresh, (Launch(generation, new_key=True, new_ports=True),)


def _desire_up(
    kernel: Lifecycle, event: StartRequested | RestartRequested, _policy: Policy, _now: float
) -> Outcome:
    reason = kernel.reason if kernel.desired is Desired.UP else _request_reason(event)
    return replace(kernel, desired=Desired.UP, reason=reason), ()


def _relaunch_now(kernel: Lifecycle, event: Event, _policy: Policy, _now: float) -> Outcome:
    requested = isinstance(event, StartRequested)
    return _relaunch(kernel, "start was requested" if requested else "the back-off time is over")


def _restart_from_backoff(
    kernel: Lifecycle, event: RestartRequested, _policy: Policy, _now: float
) -> Outcome:
    return _relaunch(kernel, event.why, new_key=event.new_key)


def _launched(kernel: Lifecycle, _event: Launched, policy: Policy, now: float) -> Outcome:
    if kernel.desired is Desired.DOWN:
        return _begin_stop(kernel, StopCause.STOP, Step.TERMINATE, policy, now, kernel.reason)
    return replace(
        kernel,
        state=State.STARTING,
        deadline=now + policy.startup_timeout,
        new_key=False,
        reason="its process was spawned",
    ), ()


def _launch_failed(kernel: Lifecycle, event: LaunchFailed, policy: Policy, now: float) -> Outcome:
    if kernel.desired is Desired.DOWN:
        return _end_in(kernel, State.STOPPED, kernel.reason)
    if event.passing and kernel.proved and policy.restart != "no":
        deadline = now + backoff_delay(PASSING_FAILURE_WEIGHT, policy, event.roll)
        return replace(kernel, state=State.BACKOFF, deadline=deadline, reason=event.reason), ()
    return _fail(kernel, event.reason, policy, now, event.roll)


def _answered(kernel: Lifecycle, _event: Answered, policy: Policy, now: float) -> Outcome:
    running = replace(
        kernel,
        state=State.RUNNING,
        deadline=now + policy.stable_after if kernel.failures else None,
        port_tries=0,
        proved=True,
        reason="it answered kernel_info_request",
    )
    return running, ()


def _startup_timed_out(
    kernel: Lifecycle, _event: DeadlinePassed, policy: Policy, now: float
) -> Outcome:
    reason = f"no answer to kernel_info_request within {policy.startup_timeout:g} s"
    return _begin_stop(kernel, StopCause.FAILURE, Step.TERMINATE, policy, now, reason)


def _wire_refused(kernel: Lifecycle, event: WireRefused, policy: Policy, now: float) -> Outcome:
    if not event.may_fall_back:
        return _begin_stop(kernel, StopCause.FAILURE, Step.TERMINATE, policy, now, event.reason)
    kernel = replace(kernel, fallback=True)
    reason = f"{event.reason}; trying plain tcp"
    return _begin_stop(kernel, StopCause.RESTART, Step.TERMINATE, policy, now, reason)


def _forget_failures(
    kernel: Lifecycle, _event: DeadlinePassed, _policy: Policy, _now: float
) -> Outcome:
    return replace(kernel, failures=0, deadline=None), ()


def _heartbeat_missed(
    kernel: Lifecycle, _event: HeartbeatMissed, policy: Policy, now: float
) -> Outcome:
    kernel = replace(kernel, unresponsive=True, reason="it does not answer heartbeats")
    if not policy.restart_unresponsive:
        return kernel, ()
    return _begin_stop(kernel, StopCause.FAILURE, Step.TERMINATE, policy, now, kernel.reason)


def _heartbeat_resumed(
    kernel: Lifecycle, _event: HeartbeatResumed, _policy: Policy, _now: float
) -> Outcome:
    if not kernel.unresponsive:
        return kernel, ()
    return replace(kernel, unresponsive=False, reason="it answers again"), ()


def _exited_early(kernel: Lifecycle, event: Exited, policy: Policy, now: float) -> Outcome:
    if kernel.desired is Desired.DOWN:
        return _end_in(kernel, State.STOPPED, kernel.reason)
    if event.ordered:
        return _end_in(kernel, State.STOPPED, event.reason)
    if event.ports_taken and kernel.port_tries < MAX_PORT_TRIES:
        kernel = replace(kernel, port_tries=kernel.port_tries + 1)
        return _relaunch(kernel, "other programs have its ports; trying new ones", new_ports=True)
    if event.trial_failed:
        reason = f"{event.reason}, before it was ready; trying plain tcp"
        return _relaunch(kernel, reason, new_ports=True, fallback=True)
    reason = f"{event.reason}, before it was ready"
    return _fail(kernel, reason, policy, now, event.roll, lost=event.lost)


def _exited(kernel: Lifecycle, event: Exited, policy: Policy, now: float) -> Outcome:
    if event.ordered or (event.success and policy.restart != "always"):
        return _end_in(kernel, State.STOPPED, event.reason)
    return _fail(kernel, event.reason, policy, now, event.roll, lost=event.lost)


def _stop(kernel: Lifecycle, event: StopRequested, policy: Policy, now: float) -> Outcome:
    step = _first_step(kernel, event)
    return _begin_stop(kernel, StopCause.STOP, step, policy, now, event.why)


def _restart(kernel: Lifecycle, event: RestartRequested, policy: Policy, now: float) -> Outcome:
    step = _first_step(kernel, event)
    kernel = replace(kernel, new_key=event.new_key, failures=0)
    return _begin_stop(kernel, StopCause.RESTART, step, policy, now, event.why)


def _desire_down(kernel: Lifecycle, event: StopRequested, _policy: Policy, _now: float) -> Outcome:
    return replace(kernel, desired=Desired.DOWN, reason=event.why), ()


def _stop_again(kernel: Lifecycle, event: StopRequested, policy: Policy, now: float) -> Outcome:
    kernel = replace(kernel, desired=Desired.DOWN, stop_cause=StopCause.STOP, reason=event.why)
    return _send_signal(kernel, policy, now) if event.now else (kernel, ())


def _exit_delayed(kernel: Lifecycle, event: ExitDelayed, _policy: Policy, now: float) -> Outcome:
    """Record what delays an exit; extend the deadline if only zombies delay the exit."""
    if kernel.step is not Step.SHUTDOWN and not event.by_shim:
        return kernel, ()
    deadline = kernel.deadline
    if event.children_alone and deadline is not None:
        deadline = max(deadline, now - event.since_request_s + ENDED_CHILDREN_TIMEOUT_S)
    kernel = replace(kernel, waits_for=event.waits_for, children_alone=event.children_alone)
    return replace(kernel, deadline=deadline), ()


def _lingers(kernel: Lifecycle, _event: Lingers, policy: Policy, now: float) -> Outcome:
    """Send SIGTERM to a kernel that lingers, unless its stop timeout is longer than the default."""
    if kernel.step is not Step.SHUTDOWN or policy.stop_timeout > DEFAULT_STOP_TIMEOUT_S:
        return kernel, ()
    return _begin_step(kernel, Step.TERMINATE, policy, now)


def _stop_without_process(
    kernel: Lifecycle, event: StopRequested, _policy: Policy, _now: float
) -> Outcome:
    return _end_in(kernel, State.STOPPED, event.why)


def _start_after_stop(kernel: Lifecycle, event: Event, policy: Policy, now: float) -> Outcome:
    restart = event if isinstance(event, RestartRequested) else RestartRequested(new_key=True)
    new_key = restart.new_key
    kernel = replace(
        kernel,
        desired=Desired.UP,
        stop_cause=StopCause.RESTART,
        new_key=new_key,
        reason=_request_reason(event),
    )
    return _send_signal(kernel, policy, now) if restart.now else (kernel, ())


def _request_reason(event: Event) -> str:
    """Return the reason for a change of state that a request causes, as shown to users."""
    return event.why if isinstance(event, RestartRequested) else "start was requested"


def _escalate(kernel: Lifecycle, _event: DeadlinePassed, policy: Policy, now: float) -> Outcome:
    steps = list(Step)
    step = steps[min(steps.index(kernel.step or Step.INTERRUPT) + 1, len(steps) - 1)]
    return _begin_step(kernel, step, policy, now)


def _exited_while_stopping(kernel: Lifecycle, event: Exited, policy: Policy, now: float) -> Outcome:
    reason = kernel.reason
    if kernel.step in {Step.TERMINATE, Step.KILL}:
        reason += f"; it took {kernel.step}"
    if event.ordered and kernel.desired is Desired.UP:
        return _end_in(kernel, State.STOPPED, event.reason)
    if kernel.stop_cause is StopCause.FAILURE:
        return _fail(kernel, reason, policy, now, event.roll)
    if kernel.desired is Desired.UP:
        return _relaunch_after_stop(kernel, reason)
    return _end_in(kernel, State.STOPPED, reason)


def _relaunch_after_stop(kernel: Lifecycle, reason: str) -> Outcome:
    fallback = kernel.fallback
    return _relaunch(kernel, reason, new_key=kernel.new_key, new_ports=fallback, fallback=fallback)


def _adopted_early(kernel: Lifecycle, _event: Adopted, policy: Policy, now: float) -> Outcome:
    if kernel.desired is Desired.DOWN:
        return _begin_stop(kernel, StopCause.STOP, Step.TERMINATE, policy, now, kernel.reason)
    # No deadline: the kernel may have become ready while no daemon ran, and may be running a long
    # cell. A kernel that has bound no socket in time is reported by `WireRefused`.
    reason = "it was adopted before it had answered; its start is limited until it binds a socket"
    starting = replace(kernel, state=State.STARTING, deadline=None, new_key=False, reason=reason)
    return starting, ()


def _adopted(kernel: Lifecycle, _event: Adopted, policy: Policy, now: float) -> Outcome:
    return replace(kernel, deadline=now + policy.stable_after), ()


def _adopted_stopping(kernel: Lifecycle, _event: Adopted, policy: Policy, now: float) -> Outcome:
    if kernel.step is Step.SHUTDOWN and kernel.children_alone:
        # The kernel has replied to the previous daemon and may no longer read its sockets.
        deadline = now + max(policy.stop_timeout, ENDED_CHILDREN_TIMEOUT_S)
        return replace(kernel, deadline=deadline), ()
    return _begin_step(kernel, kernel.step or Step.SHUTDOWN, policy, now)


def _adopted_in_backoff(kernel: Lifecycle, _event: Adopted, policy: Policy, now: float) -> Outcome:
    return replace(kernel, deadline=now + backoff_delay(kernel.failures, policy, 0.5)), ()


def _discovered(kernel: Lifecycle, event: Discovered, _policy: Policy, _now: float) -> Outcome:
    running = Lifecycle(
        state=State.RUNNING,
        desired=Desired.UP,
        generation=event.launch,
        restarts=kernel.restarts,
        proved=True,
        reason="it was found again by the record of its shim",
    )
    return running, ()


def _adoption_unanswered(
    kernel: Lifecycle, _event: AdoptionUnanswered, _policy: Policy, _now: float
) -> Outcome:
    reason = "it has not answered since it was adopted; it may be in a long computation"
    return replace(kernel, unresponsive=True, reason=reason), ()


def _never_launched(
    kernel: Lifecycle, _event: NeverLaunched, _policy: Policy, _now: float
) -> Outcome:
    if kernel.desired is Desired.DOWN:
        return _end_in(kernel, State.STOPPED, kernel.reason)
    return kernel, (Launch(kernel.generation, new_key=kernel.new_key),)


def _machine_restarted(
    kernel: Lifecycle, _event: MachineRestarted, _policy: Policy, _now: float
) -> Outcome:
    return _end_in(kernel, State.LOST, "the machine restarted", desired=kernel.desired)


# --- functions that several transitions share


def _first_step(kernel: Lifecycle, event: StopRequested | RestartRequested) -> Step:
    """Choose the first step of a stop.

    A kernel that has not answered yet gets a signal instead of a message.
    """
    if event.now or kernel.state is State.STARTING:
        return Step.TERMINATE
    return Step.INTERRUPT if event.busy else Step.SHUTDOWN


def _send_signal(kernel: Lifecycle, policy: Policy, now: float) -> Outcome:
    """Send SIGTERM during a stop, or SIGKILL if SIGTERM was already sent."""
    signalled = kernel.step in {Step.TERMINATE, Step.KILL}
    return _begin_step(kernel, Step.KILL if signalled else Step.TERMINATE, policy, now)


def _begin_stop(
    kernel: Lifecycle, cause: StopCause, step: Step, policy: Policy, now: float, reason: str
) -> Outcome:
    desired = Desired.DOWN if cause is StopCause.STOP else Desired.UP
    kernel = replace(kernel, state=State.STOPPING, desired=desired, stop_cause=cause, reason=reason)
    return _begin_step(kernel, step, policy, now)


def _begin_step(kernel: Lifecycle, step: Step, policy: Policy, now: float) -> Outcome:
    times = {
        Step.INTERRUPT: min(INTERRUPT_TIMEOUT_S, policy.stop_timeout),
        Step.SHUTDOWN: policy.stop_timeout,
        Step.TERMINATE: min(TERMINATE_TIMEOUT_S, policy.stop_timeout),
        Step.KILL: KILL_INTERVAL_S,
    }
    waits_for = kernel.waits_for if step is kernel.step else ""
    kernel = replace(kernel, step=step, waits_for=waits_for, children_alone=False)
    # The kernel is told that a restart follows if its clients can use the next process. With a new
    # key, they cannot.
    followed = kernel.desired is Desired.UP and not kernel.new_key
    restart = step is Step.SHUTDOWN and followed
    return replace(kernel, deadline=now + times[step]), (TakeStep(step, restart),)


def _relaunch(
    kernel: Lifecycle,
    reason: str,
    *,
    new_key: bool = False,
    new_ports: bool = False,
    fallback: bool = False,
) -> Outcome:
    kernel = replace(
        kernel,
        state=State.LAUNCHING,
        desired=Desired.UP,
        generation=kernel.generation + 1,
        restarts=kernel.restarts + (not new_ports),
        unresponsive=False,
        step=None,
        stop_cause=None,
        new_key=new_key,
        fallback=False,
        waits_for="",
        children_alone=False,
        deadline=None,
        reason=reason,
    )
    launch = Launch(kernel.generation, new_key=new_key, new_ports=new_ports, fallback=fallback)
    return kernel, (launch,)


def _fail(
    kernel: Lifecycle, reason: str, policy: Policy, now: float, roll: float, *, lost: bool = False
) -> Outcome:
    """Retry or give up after a failed launch or an exit that nobody requested."""
    failures = kernel.failures + 1
    kernel = replace(kernel, failures=failures, step=None, stop_cause=None, unresponsive=False)
    kernel = replace(kernel, waits_for="", children_alone=False)
    end = State.LOST if lost else State.FAILED
    if policy.restart == "no" or not kernel.proved:
        return _end_in(kernel, end, reason, desired=Desired.UP)
    if failures > policy.max_failures:
        return _end_in(kernel, end, f"{reason}; {failures} failures in a row", desired=Desired.UP)
    deadline = now + backoff_delay(failures, policy, roll)
    return replace(kernel, state=State.BACKOFF, deadline=deadline, reason=reason), ()


def _end_in(
    kernel: Lifecycle, state: State, reason: str, desired: Desired = Desired.DOWN
) -> Outcome:
    kernel = replace(
        kernel,
        state=state,
        desired=desired,
        step=None,
        stop_cause=None,
        new_key=False,
        fallback=False,
        waits_for="",
        children_alone=False,
        unresponsive=False,
        deadline=None,
        reason=reason,
    )
    return kernel, (CleanUp(),)


Transition = Callable[..., Outcome]  # the event has the type that the row names
TABLE: dict[tuple[State, type], Transition] = {
    (State.STOPPED, StartRequested): _start,
    (State.STOPPED, RestartRequested): _start,
    (State.FAILED, StartRequested): _start,
    (State.FAILED, RestartRequested): _start,
    (State.FAILED, StopRequested): _stop_without_process,
    (State.LOST, StartRequested): _start,
    (State.LOST, RestartRequested): _start,
    (State.LOST, StopRequested): _stop_without_process,
    (State.LAUNCHING, Launched): _launched,
    (State.LAUNCHING, LaunchFailed): _launch_failed,
    (State.LAUNCHING, StartRequested): _desire_up,
    (State.LAUNCHING, RestartRequested): _desire_up,
    (State.LAUNCHING, StopRequested): _desire_down,
    (State.LAUNCHING, Adopted): _adopted_early,
    (State.LAUNCHING, NeverLaunched): _never_launched,
    (State.LAUNCHING, Exited): _exited_early,
    (State.STARTING, Answered): _answered,
    (State.STARTING, DeadlinePassed): _startup_timed_out,
    (State.STARTING, Exited): _exited_early,
    (State.STARTING, WireRefused): _wire_refused,
    (State.STARTING, StopRequested): _stop,
    (State.STARTING, RestartRequested): _restart,
    (State.STARTING, Adopted): _adopted_early,
    (State.RUNNING, Exited): _exited,
    (State.RUNNING, DeadlinePassed): _forget_failures,
    (State.RUNNING, StopRequested): _stop,
    (State.RUNNING, RestartRequested): _restart,
    (State.RUNNING, HeartbeatMissed): _heartbeat_missed,
    (State.RUNNING, HeartbeatResumed): _heartbeat_resumed,
    (State.RUNNING, Adopted): _adopted,
    (State.RUNNING, AdoptionUnanswered): _adoption_unanswered,
    (State.STOPPING, Exited): _exited_while_stopping,
    (State.STOPPING, DeadlinePassed): _escalate,
    (State.STOPPING, StartRequested): _start_after_stop,
    (State.STOPPING, RestartRequested): _start_after_stop,
    (State.STOPPING, StopRequested): _stop_again,
    (State.STOPPING, ExitDelayed): _exit_delayed,
    (State.STOPPING, Lingers): _lingers,
    (State.STOPPING, Adopted): _adopted_stopping,
    (State.BACKOFF, DeadlinePassed): _relaunch_now,
    (State.BACKOFF, StartRequested): _relaunch_now,
    (State.BACKOFF, RestartRequested): _restart_from_backoff,
    (State.BACKOFF, StopRequested): _stop_without_process,
    (State.BACKOFF, Adopted): _adopted_in_backoff,
    **{(state, Discovered): _discovered for state in State},
    **{(state, MachineRestarted): _machine_restarted for state in (*LIVE, State.BACKOFF)},
}
