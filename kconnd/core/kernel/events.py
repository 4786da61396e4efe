"""Events of a kernel and the commands that answer them, as immutable values.

Rules. An event about a process carries the generation of its launch; an event of an earlier
generation is ignored. A command names an action, and the launcher chooses how to perform the
action.
"""

from dataclasses import dataclass
from enum import StrEnum


class Step(StrEnum):
    """The steps of a stop, from the gentlest to the hardest."""

    INTERRUPT = "interrupt"
    SHUTDOWN = "shutdown_request"
    TERMINATE = "SIGTERM"
    KILL = "SIGKILL"


# --- events; an event about a process carries the generation of its launch


@dataclass(frozen=True)
class StartRequested:
    """A user or the start of the daemon requests a start.

    A start at boot is retried after an early exit.
    """

    at_boot: bool = False


@dataclass(frozen=True)
class StopRequested:
    """A user or the daemon requests a stop."""

    busy: bool = True
    why: str = "stop was requested"
    # Whether to signal at once, without a shutdown_request, which the kernel may delay.
    now: bool = False


@dataclass(frozen=True)
class RestartRequested:
    """A user restarts the kernel: a new process under the same name."""

    busy: bool = True
    new_key: bool = False
    now: bool = False  # whether to signal at once, without a shutdown_request


@dataclass(frozen=True)
class Launched:
    """The process of this generation exists."""

    generation: int


@dataclass(frozen=True)
class LaunchFailed:
    """The launch failed; ``passing`` means a cause outside the kernel, such as a full disk."""

    generation: int
    reason: str
    roll: float = 0.5
    passing: bool = False


@dataclass(frozen=True)
class Answered:
    """The kernel answered ``kernel_info_request``."""

    generation: int


@dataclass(frozen=True)
class Exited:
    """All processes of the kernel have exited.

    ``reason`` is shown to users. ``lost`` means that the exit status is unknown. ``ordered`` means
    that an administrator stopped the kernel's unit. ``trial_failed`` means that the start tried a
    wire, and that the kernel exited before it answered. ``roll`` is a random number from 0 to 1 for
    the jitter of a retry; `decide` itself uses no random numbers.
    """

    generation: int
    reason: str
    success: bool = False
    lost: bool = False
    ordered: bool = False
    ports_taken: bool = False
    trial_failed: bool = False
    roll: float = 0.5


@dataclass(frozen=True)
class WireRefused:
    """The kernel does not use its connection file's sockets, or not with its keys.

    ``may_fall_back`` means that the start was a trial, so that a launch on plain tcp follows.
    """

    generation: int
    reason: str
    may_fall_back: bool = False


@dataclass(frozen=True)
class HeartbeatMissed:
    """The kernel missed as many heartbeats in a row as its profile allows."""

    generation: int


@dataclass(frozen=True)
class HeartbeatResumed:
    """The kernel answers heartbeats again."""

    generation: int


@dataclass(frozen=True)
class ExitDelayed:
    """A kernel has not exited yet, or its shim has not recorded the exit.

    ``waits_for`` is shown to users. ``children_alone`` is true if the kernel has no live descendant
    and at least one zombie: a child that has exited and that the kernel has not collected.
    ``since_request_s`` is the number of seconds since the request. ``by_shim`` is true if only the
    shim delays the exit.
    """

    generation: int
    waits_for: str
    children_alone: bool
    since_request_s: float
    by_shim: bool = False


@dataclass(frozen=True)
class DeadlinePassed:
    """`Lifecycle.deadline` has passed."""


@dataclass(frozen=True)
class Adopted:
    """A new daemon found the process of the recorded generation alive."""

    generation: int


@dataclass(frozen=True)
class Discovered:
    """A new daemon found a live process that the kernel's record does not contain.

    ``launch`` is the generation of the process and becomes the generation of the kernel.
    """

    launch: int


@dataclass(frozen=True)
class AdoptionUnanswered:
    """An adopted process has not answered its first ``kernel_info_request`` yet."""

    generation: int


@dataclass(frozen=True)
class NeverLaunched:
    """A new daemon found that the previous one exited between its decision and the launch."""

    generation: int


@dataclass(frozen=True)
class MachineRestarted:
    """A new daemon found that the machine has restarted since the launch of the process."""

    generation: int


Event = (
    StartRequested
    | StopRequested
    | RestartRequested
    | Launched
    | LaunchFailed
    | Answered
    | Exited
    | WireRefused
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

# --- commands


@dataclass(frozen=True)
class Launch:
    """Launch a process, with the kernel's key and ports or with a new key and new ports.

    ``fallback`` means that the previous process of the same start has tried a wire in vain.
    """

    generation: int
    new_key: bool = False
    new_ports: bool = False
    fallback: bool = False


@dataclass(frozen=True)
class TakeStep:
    """Take one step of a stop.

    ``restart`` is a part of ``shutdown_request``: a new process with the same connection follows.
    """

    step: Step
    restart: bool = False


@dataclass(frozen=True)
class CleanUp:
    """Remove the kernel's connection file and sockets, and release its ports."""


Command = Launch | TakeStep | CleanUp
