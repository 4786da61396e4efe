"""The lifecycle of one kernel as values: its possible states, its present state and its policy.

How it works. A `Lifecycle` is an immutable value. `kconnd.core.kernel.transitions.decide` takes a
`Lifecycle` and an event, and returns the next `Lifecycle` and the commands to run. The daemon saves
the next `Lifecycle` before it runs the commands, so it can recover from a crash before or during
the commands.

The actual state and the desired state are two fields. A stop request during a launch changes
`Lifecycle.desired` at once; `Lifecycle.state` changes only when the process exists.

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
starting   wire refused                          stopping; if the start was a trial of the
                                                 wire, launching on plain tcp follows
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
    LAUNCHING = "launching"  # no process yet, or no process that the daemon knows of
    STARTING = "starting"  # a process that has not answered yet
    RUNNING = "running"
    STOPPING = "stopping"
    BACKOFF = "backoff"  # waiting before the next launch
    FAILED = "failed"  # no further launch is tried
    LOST = "lost"  # the kernel exited while no daemon watched it, so its exit status is unknown


LIVE = frozenset({State.LAUNCHING, State.STARTING, State.RUNNING, State.STOPPING})


class Desired(StrEnum):
    """The state that users want a kernel to be in."""

    UP = "up"
    DOWN = "down"


class StopCause(StrEnum):
    """The reason for a stop; this reason determines the kernel's state after its exit."""

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
    """The state of one kernel, and the other values that decisions about the kernel depend on.

    Parameters
    ----------
    state, desired : State, Desired
        The actual state and the state that users want.
    generation : int
        The number of launches so far. An event of another generation is ignored.
    restarts : int
        The number of relaunches in the kernel's whole life. A start from ``stopped`` and a relaunch
        with other ports do not count.
    failures : int
        The number of failures since the last stable run. A run is stable if it lasts at least
        `Policy.stable_after` seconds.
    port_tries : int
        The number of consecutive launches that failed because other programs used the ports.
    proved : bool
        Whether the kernel is launched again if it exits before it answers. This is true if the
        kernel has answered since the last requested start, or if the daemon starts the kernel at
        boot.
    unresponsive : bool
        Whether the kernel has missed too many heartbeats.
    step, stop_cause : Step, StopCause, optional
        While stopping: the current step, and why the kernel is being stopped.
    new_key : bool
        In ``launching``: whether this launch gets a new key. In ``stopping``: whether the next
        launch gets a new key.
    fallback : bool
        In ``stopping``: whether the next launch uses plain tcp, because the kernel could not be
        reached on the wire that the present process tried. This field is never saved: a new daemon
        repeats the trial.
    waits_for : str
        The cause that delays the exit after the reply to ``shutdown_request``, as shown to users.
    children_alone : bool
        Whether only zombies delay the exit. A zombie is a child process that has exited and that
        the kernel has not collected.
    deadline : float, optional
        The time at which the event `DeadlinePassed` occurs, in monotonic seconds. It is never
        saved.
    reason : str
        Why the kernel is in its present state, as shown to users.
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
    fallback: bool = False
    waits_for: str = ""
    children_alone: bool = False
    deadline: float | None = None
    reason: str = ""
