"""What can happen to a kernel, and what can be done about it, as values.

Rules. An event about a process carries the generation of its launch, so that news of an
earlier one changes nothing. A command says what, never how: launchers know that.
"""

from dataclasses import dataclass
from enum import StrEnum


class Step(StrEnum):
    """How a stop escalates."""

    INTERRUPT = "interrupt"
    SHUTDOWN = "shutdown_request"
    TERMINATE = "SIGTERM"
    KILL = "SIGKILL"


# --- events: what happened. Those about a process carry its generation.


@dataclass(frozen=True)
class StartRequested:
    """Somebody wants it up; at boot nobody is there to look at an early end."""

    at_boot: bool = False


@dataclass(frozen=True)
class StopRequested:
    """Somebody wants it down."""

    busy: bool = True
    why: str = "stop was requested"
    now: bool = False  # by signal, without a request that the kernel could take its time over


@dataclass(frozen=True)
class RestartRequested:
    """Somebody wants a fresh process under the same name."""

    busy: bool = True
    new_key: bool = False
    now: bool = False  # as for a stop


@dataclass(frozen=True)
class Launched:
    """There is a process."""

    generation: int


@dataclass(frozen=True)
class LaunchFailed:
    """There is none, for this reason; ``passing`` where that is no fault of the kernel's."""

    generation: int
    reason: str
    roll: float = 0.5
    passing: bool = False


@dataclass(frozen=True)
class Answered:
    """It answered ``kernel_info_request``."""

    generation: int


@dataclass(frozen=True)
class Exited:
    """Every process of it is gone.

    ``reason`` is for people; ``lost`` means that nobody saw how; ``ordered`` that an
    administrator ended it, by its unit; ``roll`` is a random number from 0 to 1, since there is
    no chance in here.
    """

    generation: int
    reason: str
    success: bool = False
    lost: bool = False
    ordered: bool = False
    ports_taken: bool = False
    roll: float = 0.5


@dataclass(frozen=True)
class HeartbeatMissed:
    """It did not answer as many heartbeats in a row as its profile allows."""

    generation: int


@dataclass(frozen=True)
class HeartbeatResumed:
    """It answers heartbeats again."""

    generation: int


@dataclass(frozen=True)
class ExitDelayed:
    """A kernel replied to ``shutdown_request`` and has not ended yet.

    ``waits_for`` is for people. ``children_alone`` is true where the kernel has children that
    ended and that it has not collected, and no process below it lives. ``since_request_s`` is the
    number of seconds since the request.
    """

    generation: int
    waits_for: str
    children_alone: bool
    since_request_s: float


@dataclass(frozen=True)
class DeadlinePassed:
    """The time in `Lifecycle.deadline` has come."""


@dataclass(frozen=True)
class Adopted:
    """A new daemon found the process of this generation alive, as it had been left."""

    generation: int


@dataclass(frozen=True)
class Discovered:
    """A new daemon found a process alive that the record knows nothing of, or of no longer.

    ``launch`` is its generation, which becomes the kernel's.
    """

    launch: int


@dataclass(frozen=True)
class AdoptionUnanswered:
    """An adopted process was asked who it is and has not answered yet."""

    generation: int


@dataclass(frozen=True)
class NeverLaunched:
    """A new daemon found that the one before it ended between deciding and launching."""

    generation: int


@dataclass(frozen=True)
class MachineRestarted:
    """A new daemon found that the process belonged to an earlier run of the machine."""

    generation: int


Event = (
    StartRequested
    | StopRequested
    | RestartRequested
    | Launched
    | LaunchFailed
    | Answered
    | Exited
    | HeartbeatMissed
    | HeartbeatResumed
    | ExitDelayed
    | DeadlinePassed
    | Adopted
    | Discovered
    | AdoptionUnanswered
    | NeverLaunched
    | MachineRestarted
)

# --- commands: what to do about it.


@dataclass(frozen=True)
class Launch:
    """Make a process, with the key and ports that it had unless told otherwise."""

    generation: int
    new_key: bool = False
    new_ports: bool = False


@dataclass(frozen=True)
class TakeStep:
    """Ask the process to end, this firmly."""

    step: Step


@dataclass(frozen=True)
class CleanUp:
    """Remove what the kernel left: connection file, sockets, granted ports."""


Command = Launch | TakeStep | CleanUp
