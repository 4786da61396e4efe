"""How one kernel lives: every decision to start, stop or restart it is made in this file.

Rules. `decide` is a function of its arguments: no I/O, no clock, no chance. What *is*
(`State`) and what is *desired* are two fields. The table at the end holds all transitions; an
event that has no row in its state changes nothing. An event of an older generation changes
nothing. Nothing here ends a live kernel unless somebody asked or its profile says so; a
start that never gave an answer is not yet a live kernel.

::

    stopped ──> launching ──> starting ──> running
       ^            │             │           │
       │            └──────┬──────┴───────────┤ ended by itself
       │                   v                  v
    stopping <── asked   backoff ──> launching again, or failed, or lost
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

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
    MachineRestarted,
    NeverLaunched,
    RestartRequested,
    StartRequested,
    Step,
    StopRequested,
    TakeStep,
)

MAX_PORT_TRIES = 5  # launches with other ports, where somebody else took the chosen ones
PASSING_FAILURE_WEIGHT = (
    4  # failures that a full disk is worth: a launch is tried again every few seconds
)
INTERRUPT_TIMEOUT_S = 1.0  # seconds a running cell gets to clean up after its interrupt
TERMINATE_TIMEOUT_S = 5.0  # seconds after SIGTERM
KILL_INTERVAL_S = 5.0  # seconds until SIGKILL is sent again, to what was forked meanwhile
# ipykernel 7.4 waits 29 s for children that have ended and that it has not collected. Its atexit
# functions, in which people save their work, run after that, and SIGTERM would skip them.
ENDED_CHILDREN_TIMEOUT_S = 35.0


class State(StrEnum):
    """What a kernel is doing."""

    STOPPED = "stopped"
    LAUNCHING = "launching"  # no process yet, or none that we know of
    STARTING = "starting"  # a process, no answer yet
    RUNNING = "running"
    STOPPING = "stopping"
    BACKOFF = "backoff"  # waiting before it is launched again
    FAILED = "failed"  # given up
    LOST = "lost"  # nobody saw how it ended


LIVE = frozenset({State.LAUNCHING, State.STARTING, State.RUNNING, State.STOPPING})


class Desired(StrEnum):
    """What its users want it to be."""

    UP = "up"
    DOWN = "down"


class StopCause(StrEnum):
    """Why a kernel is being stopped, which says what comes after."""

    STOP = "stop"
    RESTART = "restart"
    FAILURE = "failure"


@dataclass(frozen=True)
class Policy:
    """What a profile says about starting and restarting; times in seconds."""

    restart: str = "on-failure"
    max_failures: int = 5
    backoff: float = 0.5
    backoff_max: float = 60.0
    stable_after: float = 60.0
    startup_timeout: float = 60.0
    stop_timeout: float = 10.0
    restart_unresponsive: bool = False


@dataclass(frozen=True)
class Lifecycle:
    """Where a kernel stands.

    Parameters
    ----------
    state, desired : State, Desired
        What is, and what its users want.
    generation : int
        Counts launches; it tells whether an event is about the present process.
    restarts : int
        Launches since the last start from stopped that nobody asked for, or asked as restart.
    failures : int
        Ends in a row, without a stable run between them.
    port_tries : int
        Launches in a row that found their ports taken.
    proved : bool
        Whether an early end is to be retried: the kernel has answered, or it starts at boot.
    unresponsive : bool
        Whether heartbeats are missing.
    step, stop_cause : Step, StopCause, optional
        While stopping: how far it has got, and what for.
    new_key : bool
        Whether the next launch, or the one under way, gets a new key.
    waits_for : str
        While stopping: what its end waits for, for people, once it has replied to a request.
    children_alone : bool
        Whether that is children alone which have ended.
    deadline : float, optional
        Monotonic seconds at which `DeadlinePassed` is due. Never saved.
    reason : str
        Why it is in this state, for people.
    """

    state: State = State.STOPPED
    desired: Desired = Desired.DOWN
    generation: int = 0
    restarts: int = 0
    failures: int = 0
    port_tries: int = 0
    proved: bool = False
    unresponsive: bool = False
    step: Step | None = None
    stop_cause: StopCause | None = None
    new_key: bool = False
    waits_for: str = ""
    children_alone: bool = False
    deadline: float | None = None
    reason: str = ""


Outcome = tuple[Lifecycle, tuple[Command, ...]]


def decide(kernel: Lifecycle, event: Event, policy: Policy, now: float) -> Outcome:
    """Decide what an event means for a kernel.

    Parameters
    ----------
    kernel : Lifecycle
        Where it stands.
    event : Event
        What happened.
    policy : Policy
        What its profile says.
    now : float
        Monotonic seconds.

    Returns
    -------
    tuple
        Where it stands now, to be saved first, and what is to be done then.
    """
    if getattr(event, "generation", kernel.generation) != kernel.generation:
        return kernel, ()
    rule = TABLE.get((kernel.state, type(event)))
    return rule(kernel, event, policy, now) if rule else (kernel, ())


def backoff_delay(failures: int, policy: Policy, roll: float) -> float:
    """Give the seconds to wait after so many failures: doubled each time, with jitter."""
    doubled = policy.backoff * 2.0 ** min(failures - 1, 60)
    return min(policy.backoff_max, doubled * (0.75 + 0.5 * roll))


# --- rules, in the order of a kernel's life


def _start(
    kernel: Lifecycle, event: StartRequested | RestartRequested, _policy: Policy, _now: float
) -> Outcome:
    generation = kernel.generation + 1
    at_boot = isinstance(event, StartRequested) and event.at_boot
    fresh = Lifecycle(
        state=State.LAUNCHING,
        desired=Desired.UP,
        generation=generation,
        proved=at_boot,
        new_key=True,
        reason="started at boot" if at_boot else "start was asked for",
    )
    return fresh, (Launch(generation, new_key=True, new_ports=True),)


def _want_up(
    kernel: Lifecycle, event: StartRequested | RestartRequested, _policy: Policy, _now: float
) -> Outcome:
    reason = kernel.reason if kernel.desired is Desired.UP else _asked(event)
    return replace(kernel, desired=Desired.UP, reason=reason), ()


def _again_now(kernel: Lifecycle, _event: Event, _policy: Policy, _now: float) -> Outcome:
    return _relaunch(kernel, kernel.reason or "launched again")


def _restart_now(
    kernel: Lifecycle, event: RestartRequested, _policy: Policy, _now: float
) -> Outcome:
    return _relaunch(kernel, "restart was asked for", new_key=event.new_key)


def _launched(kernel: Lifecycle, _event: Launched, policy: Policy, now: float) -> Outcome:
    if kernel.desired is Desired.DOWN:
        return _begin_stop(kernel, StopCause.STOP, Step.TERMINATE, policy, now, kernel.reason)
    deadline = now + policy.startup_timeout
    return replace(kernel, state=State.STARTING, deadline=deadline, new_key=False), ()


def _launch_failed(kernel: Lifecycle, event: LaunchFailed, policy: Policy, now: float) -> Outcome:
    if kernel.desired is Desired.DOWN:
        return _rest(kernel, State.STOPPED, kernel.reason)
    if event.passing and kernel.proved and policy.restart != "no":
        deadline = now + backoff_delay(PASSING_FAILURE_WEIGHT, policy, event.roll)
        return replace(kernel, state=State.BACKOFF, deadline=deadline, reason=event.reason), ()
    return _failed(kernel, event.reason, policy, now, event.roll)


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


def _too_slow(kernel: Lifecycle, _event: DeadlinePassed, policy: Policy, now: float) -> Outcome:
    reason = f"no answer to kernel_info_request within {policy.startup_timeout:g} s"
    return _begin_stop(kernel, StopCause.FAILURE, Step.TERMINATE, policy, now, reason)


def _stable(kernel: Lifecycle, _event: DeadlinePassed, _policy: Policy, _now: float) -> Outcome:
    return replace(kernel, failures=0, deadline=None), ()


def _missed(kernel: Lifecycle, _event: HeartbeatMissed, policy: Policy, now: float) -> Outcome:
    kernel = replace(kernel, unresponsive=True, reason="it does not answer heartbeats")
    if not policy.restart_unresponsive:
        return kernel, ()
    return _begin_stop(kernel, StopCause.FAILURE, Step.TERMINATE, policy, now, kernel.reason)


def _back(kernel: Lifecycle, _event: HeartbeatResumed, _policy: Policy, _now: float) -> Outcome:
    if not kernel.unresponsive:
        return kernel, ()
    return replace(kernel, unresponsive=False, reason="it answers again"), ()


def _early_exit(kernel: Lifecycle, event: Exited, policy: Policy, now: float) -> Outcome:
    if kernel.desired is Desired.DOWN:
        return _rest(kernel, State.STOPPED, kernel.reason)
    if event.ordered:
        return _rest(kernel, State.STOPPED, event.reason)
    if event.ports_taken and kernel.port_tries < MAX_PORT_TRIES:
        kernel = replace(kernel, port_tries=kernel.port_tries + 1)
        return _relaunch(kernel, "its ports were taken; trying others", new_ports=True)
    reason = f"{event.reason}, before it was ready"
    return _failed(kernel, reason, policy, now, event.roll, lost=event.lost)


def _exited(kernel: Lifecycle, event: Exited, policy: Policy, now: float) -> Outcome:
    if event.ordered or (event.success and policy.restart != "always"):
        return _rest(kernel, State.STOPPED, event.reason)
    return _failed(kernel, event.reason, policy, now, event.roll, lost=event.lost)


def _stop(kernel: Lifecycle, event: StopRequested, policy: Policy, now: float) -> Outcome:
    step = _first_step(kernel, event)
    return _begin_stop(kernel, StopCause.STOP, step, policy, now, event.why)


def _restart(kernel: Lifecycle, event: RestartRequested, policy: Policy, now: float) -> Outcome:
    step = _first_step(kernel, event)
    kernel = replace(kernel, new_key=event.new_key, failures=0)
    return _begin_stop(kernel, StopCause.RESTART, step, policy, now, "restart was asked for")


def _want_down(kernel: Lifecycle, event: StopRequested, _policy: Policy, _now: float) -> Outcome:
    return replace(kernel, desired=Desired.DOWN, reason=event.why), ()


def _stop_again(kernel: Lifecycle, event: StopRequested, policy: Policy, now: float) -> Outcome:
    kernel = replace(kernel, desired=Desired.DOWN, stop_cause=StopCause.STOP, reason=event.why)
    return _end_wait(kernel, policy, now) if event.now else (kernel, ())


def _delayed(kernel: Lifecycle, event: ExitDelayed, _policy: Policy, now: float) -> Outcome:
    """Give a kernel that waits for ended children alone the time which that takes."""
    if kernel.step is not Step.SHUTDOWN:
        return kernel, ()
    deadline = kernel.deadline
    if event.children_alone and deadline is not None:
        deadline = max(deadline, now - event.since_request_s + ENDED_CHILDREN_TIMEOUT_S)
    kernel = replace(kernel, waits_for=event.waits_for, children_alone=event.children_alone)
    return replace(kernel, deadline=deadline), ()


def _stop_idle(kernel: Lifecycle, event: StopRequested, _policy: Policy, _now: float) -> Outcome:
    return _rest(kernel, State.STOPPED, event.why)


def _up_after_stop(kernel: Lifecycle, event: Event, policy: Policy, now: float) -> Outcome:
    restart = event if isinstance(event, RestartRequested) else RestartRequested(new_key=True)
    new_key = restart.new_key
    kernel = replace(
        kernel,
        desired=Desired.UP,
        stop_cause=StopCause.RESTART,
        new_key=new_key,
        reason=_asked(event),
    )
    return _end_wait(kernel, policy, now) if restart.now else (kernel, ())


def _asked(event: Event) -> str:
    """Say what somebody asked for."""
    return f"{'restart' if isinstance(event, RestartRequested) else 'start'} was asked for"


def _escalate(kernel: Lifecycle, _event: DeadlinePassed, policy: Policy, now: float) -> Outcome:
    steps = list(Step)
    step = steps[min(steps.index(kernel.step or Step.INTERRUPT) + 1, len(steps) - 1)]
    return _take(kernel, step, policy, now)


def _stopped(kernel: Lifecycle, event: Exited, policy: Policy, now: float) -> Outcome:
    reason = kernel.reason
    if kernel.step in {Step.TERMINATE, Step.KILL}:
        reason += f"; it took {kernel.step}"
    if event.ordered and kernel.desired is Desired.UP:
        return _rest(kernel, State.STOPPED, event.reason)
    if kernel.stop_cause is StopCause.FAILURE:
        return _failed(kernel, reason, policy, now, event.roll)
    if kernel.desired is Desired.UP:
        return _relaunch(kernel, reason, new_key=kernel.new_key)
    return _rest(kernel, State.STOPPED, reason)


def _adopted_early(kernel: Lifecycle, _event: Adopted, policy: Policy, now: float) -> Outcome:
    if kernel.desired is Desired.DOWN:
        return _begin_stop(kernel, StopCause.STOP, Step.TERMINATE, policy, now, kernel.reason)
    # No deadline: while no daemon looked it may have got ready, and be in somebody's long cell.
    reason = "it was adopted before it had answered; it gets all the time that it needs"
    starting = replace(kernel, state=State.STARTING, deadline=None, new_key=False, reason=reason)
    return starting, ()


def _adopted(kernel: Lifecycle, _event: Adopted, policy: Policy, now: float) -> Outcome:
    return replace(kernel, deadline=now + policy.stable_after), ()


def _adopted_stopping(kernel: Lifecycle, _event: Adopted, policy: Policy, now: float) -> Outcome:
    if kernel.step is Step.SHUTDOWN and kernel.children_alone:
        # It replied to the daemon before this one, and may not listen any more.
        deadline = now + max(policy.stop_timeout, ENDED_CHILDREN_TIMEOUT_S)
        return replace(kernel, deadline=deadline), ()
    return _take(kernel, kernel.step or Step.SHUTDOWN, policy, now)


def _adopted_waiting(kernel: Lifecycle, _event: Adopted, policy: Policy, now: float) -> Outcome:
    return replace(kernel, deadline=now + backoff_delay(kernel.failures, policy, 0.5)), ()


def _found(kernel: Lifecycle, event: Discovered, _policy: Policy, _now: float) -> Outcome:
    found = Lifecycle(
        state=State.RUNNING,
        desired=Desired.UP,
        generation=event.launch,
        restarts=kernel.restarts,
        proved=True,
        reason="it was found again from what its shim recorded",
    )
    return found, ()


def _silent(kernel: Lifecycle, _event: AdoptionUnanswered, _policy: Policy, _now: float) -> Outcome:
    reason = "it has not answered since it was adopted; it may be in a long computation"
    return replace(kernel, unresponsive=True, reason=reason), ()


def _launch_after_all(
    kernel: Lifecycle, _event: NeverLaunched, _policy: Policy, _now: float
) -> Outcome:
    if kernel.desired is Desired.DOWN:
        return _rest(kernel, State.STOPPED, kernel.reason)
    return kernel, (Launch(kernel.generation, new_key=kernel.new_key),)


def _gone(kernel: Lifecycle, _event: MachineRestarted, _policy: Policy, _now: float) -> Outcome:
    return _rest(kernel, State.LOST, "the machine restarted", desired=kernel.desired)


# --- what several rules share


def _first_step(kernel: Lifecycle, event: StopRequested | RestartRequested) -> Step:
    """Begin as gently as it makes sense: what never answered hears no message either."""
    if event.now or kernel.state is State.STARTING:
        return Step.TERMINATE
    return Step.INTERRUPT if event.busy else Step.SHUTDOWN


def _end_wait(kernel: Lifecycle, policy: Policy, now: float) -> Outcome:
    """Go on to SIGTERM in a stop that is under way, or to SIGKILL where that was sent already."""
    signalled = kernel.step in {Step.TERMINATE, Step.KILL}
    return _take(kernel, Step.KILL if signalled else Step.TERMINATE, policy, now)


def _begin_stop(
    kernel: Lifecycle, cause: StopCause, step: Step, policy: Policy, now: float, reason: str
) -> Outcome:
    desired = Desired.DOWN if cause is StopCause.STOP else Desired.UP
    kernel = replace(kernel, state=State.STOPPING, desired=desired, stop_cause=cause, reason=reason)
    return _take(kernel, step, policy, now)


def _take(kernel: Lifecycle, step: Step, policy: Policy, now: float) -> Outcome:
    times = {
        Step.INTERRUPT: min(INTERRUPT_TIMEOUT_S, policy.stop_timeout),
        Step.SHUTDOWN: policy.stop_timeout,
        Step.TERMINATE: min(TERMINATE_TIMEOUT_S, policy.stop_timeout),
        Step.KILL: KILL_INTERVAL_S,
    }
    kernel = replace(kernel, step=step, waits_for="", children_alone=False)
    return replace(kernel, deadline=now + times[step]), (TakeStep(step),)


def _relaunch(
    kernel: Lifecycle, reason: str, *, new_key: bool = False, new_ports: bool = False
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
        waits_for="",
        children_alone=False,
        deadline=None,
        reason=reason,
    )
    return kernel, (Launch(kernel.generation, new_key=new_key, new_ports=new_ports),)


def _failed(
    kernel: Lifecycle, reason: str, policy: Policy, now: float, roll: float, *, lost: bool = False
) -> Outcome:
    """Decide what follows an end that nobody asked for."""
    failures = kernel.failures + 1
    kernel = replace(kernel, failures=failures, step=None, stop_cause=None, unresponsive=False)
    kernel = replace(kernel, waits_for="", children_alone=False)
    end = State.LOST if lost else State.FAILED
    if policy.restart == "no" or not kernel.proved:
        return _rest(kernel, end, reason, desired=Desired.UP)
    if failures > policy.max_failures:
        return _rest(kernel, end, f"{reason}; {failures} failures in a row", desired=Desired.UP)
    deadline = now + backoff_delay(failures, policy, roll)
    return replace(kernel, state=State.BACKOFF, deadline=deadline, reason=reason), ()


def _rest(kernel: Lifecycle, state: State, reason: str, desired: Desired = Desired.DOWN) -> Outcome:
    kernel = replace(
        kernel,
        state=state,
        desired=desired,
        step=None,
        stop_cause=None,
        new_key=False,
        waits_for="",
        children_alone=False,
        unresponsive=False,
        deadline=None,
        reason=reason,
    )
    return kernel, (CleanUp(),)


Transition = Callable[..., Outcome]  # each takes the event of its row
TABLE: dict[tuple[State, type], Transition] = {
    (State.STOPPED, StartRequested): _start,
    (State.STOPPED, RestartRequested): _start,
    (State.FAILED, StartRequested): _start,
    (State.FAILED, RestartRequested): _start,
    (State.FAILED, StopRequested): _stop_idle,
    (State.LOST, StartRequested): _start,
    (State.LOST, RestartRequested): _start,
    (State.LOST, StopRequested): _stop_idle,
    (State.LAUNCHING, Launched): _launched,
    (State.LAUNCHING, LaunchFailed): _launch_failed,
    (State.LAUNCHING, StartRequested): _want_up,
    (State.LAUNCHING, RestartRequested): _want_up,
    (State.LAUNCHING, StopRequested): _want_down,
    (State.LAUNCHING, Adopted): _adopted_early,
    (State.LAUNCHING, NeverLaunched): _launch_after_all,
    (State.LAUNCHING, Exited): _early_exit,
    (State.STARTING, Answered): _answered,
    (State.STARTING, DeadlinePassed): _too_slow,
    (State.STARTING, Exited): _early_exit,
    (State.STARTING, StopRequested): _stop,
    (State.STARTING, RestartRequested): _restart,
    (State.STARTING, Adopted): _adopted_early,
    (State.RUNNING, Exited): _exited,
    (State.RUNNING, DeadlinePassed): _stable,
    (State.RUNNING, StopRequested): _stop,
    (State.RUNNING, RestartRequested): _restart,
    (State.RUNNING, HeartbeatMissed): _missed,
    (State.RUNNING, HeartbeatResumed): _back,
    (State.RUNNING, Adopted): _adopted,
    (State.RUNNING, AdoptionUnanswered): _silent,
    (State.STOPPING, Exited): _stopped,
    (State.STOPPING, DeadlinePassed): _escalate,
    (State.STOPPING, StartRequested): _up_after_stop,
    (State.STOPPING, RestartRequested): _up_after_stop,
    (State.STOPPING, StopRequested): _stop_again,
    (State.STOPPING, ExitDelayed): _delayed,
    (State.STOPPING, Adopted): _adopted_stopping,
    (State.BACKOFF, DeadlinePassed): _again_now,
    (State.BACKOFF, StartRequested): _again_now,
    (State.BACKOFF, RestartRequested): _restart_now,
    (State.BACKOFF, StopRequested): _stop_idle,
    (State.BACKOFF, Adopted): _adopted_waiting,
    **{(state, Discovered): _found for state in State},
    **{(state, MachineRestarted): _gone for state in (*LIVE, State.BACKOFF)},
}
