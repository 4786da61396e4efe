"""The life of one kernel as values: its states, the policy of its profile, and where it stands.

How it works. A `Lifecycle` is an immutable value. `kconnd.core.kernel.transitions.decide` takes
one with an event and returns the next one with commands. The daemon saves the next value first
and runs the commands second, so a crash in between is recoverable.

Actual and desired state are two fields. "stop" during a launch changes `Lifecycle.desired` at
once; `Lifecycle.state` follows when the process exists.

::

    stopped ──> launching ──> starting ──> running
       ^            │             │           │
       │            └──────┬──────┴───────────┤ failure, or exit without a request
       │                   v                  v
    stopping <── stop   backoff ──> launching again, or failed, or lost

Every change of state, and the events that lead to it:

========== ===================================== ==================================================
from       event                                 to
========== ===================================== ==================================================
stopped    start, restart                        launching
launching  launched                              starting; stopping if a stop came meanwhile
launching  launch failed                         backoff, failed; stopped if a stop came meanwhile
launching  exited                                backoff, failed, lost; stopped if a stop came
                                                 meanwhile or its unit was stopped; launching
                                                 again if ports were taken
launching  adopted                               starting; stopping if a stop came meanwhile
launching  never launched                        launching; stopped if a stop came meanwhile
starting   answered                              running
starting   deadline                              stopping, because of a failure
starting   exited                                backoff, failed, lost; stopped if its unit was
                                                 stopped; launching again if ports were taken
starting   stop, restart                         stopping
running    exited                                stopped, backoff, failed, lost
running    heartbeat missed                      running; stopping if the policy restarts it
running    stop, restart                         stopping
stopping   deadline                              stopping, by the next harder step
stopping   exited                                stopped; launching if it is desired up;
                                                 backoff, failed if it was stopped for a failure
backoff    deadline, start, restart              launching
backoff    stop                                  stopped
failed     start, restart / stop                 launching / stopped
lost       start, restart / stop                 launching / stopped
any        discovered                            running
live,      machine restarted                     lost
backoff
========== ===================================== ==================================================
"""

from dataclasses import dataclass
from enum import StrEnum

from kconnd.core.kernel.events import Step


class State(StrEnum):
    """The actual state of a kernel."""

    STOPPED = "stopped"
    LAUNCHING = "launching"  # no process yet, or none that the daemon knows of
    STARTING = "starting"  # a process that has not answered yet
    RUNNING = "running"
    STOPPING = "stopping"
    BACKOFF = "backoff"  # waiting before the next launch
    FAILED = "failed"  # no further launch is tried
    LOST = "lost"  # it ended while no daemon watched, so its exit status is unknown


LIVE = frozenset({State.LAUNCHING, State.STARTING, State.RUNNING, State.STOPPING})


class Desired(StrEnum):
    """The state that users want a kernel to be in."""

    UP = "up"
    DOWN = "down"


class StopCause(StrEnum):
    """The reason why a kernel is being stopped; it determines what follows the exit."""

    STOP = "stop"
    RESTART = "restart"
    FAILURE = "failure"


@dataclass(frozen=True)
class Policy:
    """The rules of a profile for starts and restarts; times are in seconds."""

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
    """The position of one kernel in its life.

    Parameters
    ----------
    state, desired : State, Desired
        The actual state and the state that users want.
    generation : int
        Counts launches. An event about another generation's process is ignored.
    restarts : int
        Relaunches since the last start from stopped; one for other ports does not count.
    failures : int
        Failures in a row, without a stable run between them.
    port_tries : int
        Launches in a row that failed because other programs had the ports.
    proved : bool
        Whether an early exit is retried: the kernel has answered before, or it starts at boot.
    unresponsive : bool
        Whether heartbeats are missing.
    step, stop_cause : Step, StopCause, optional
        While stopping: the current step, and why the kernel is being stopped.
    new_key : bool
        Whether the next launch, or the present one, gets a new key.
    waits_for : str
        While stopping, after the reply to ``shutdown_request``: what delays the exit, for people.
    children_alone : bool
        Whether nothing but uncollected children that have exited delays it.
    deadline : float, optional
        Monotonic seconds at which `DeadlinePassed` is due. Never saved.
    reason : str
        Why the kernel is in this state, for people.
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
