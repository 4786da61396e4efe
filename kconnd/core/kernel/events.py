"""The events of a kernel, and the commands with which the daemon reacts, as immutable values.

Rules. An event about a process carries the generation of the process; an event of an earlier
generation is ignored. A command names an action, and the launcher chooses how to perform the
action.
"""

from dataclasses import dataclass
from enum import StrEnum

from kconnd.core.launch.notebook import Notebook
from kconnd.core.launch.session import Session


class Step(StrEnum):
    """The steps of a stop, from the gentlest to the hardest."""

    INTERRUPT = "interrupt"
    SHUTDOWN = "shutdown_request"
    TERMINATE = "SIGTERM"
    KILL = "SIGKILL"


# --- events


@dataclass(frozen=True)
class StartRequested:
    """A user requests a start of the kernel, or the daemon does so when the daemon starts.

    ``at_boot`` means that the daemon requests the start. If the kernel exits before its first
    answer, a start that the daemon requested is retried; a start that a user requested is not.
    ``notebook`` is the notebook of the front end that requests the start.
    """

    at_boot: bool = False
    session: Session | None = None  # of the owner's client
    notebook: Notebook | None = None


@dataclass(frozen=True)
class StopRequested:
    """A user or the daemon requests a stop; ``busy`` means that the kernel is working."""

    busy: bool = True
    why: str = "stop was requested"
    # Whether to send a signal at once. A shutdown_request would let the kernel delay its exit.
    now: bool = False


@dataclass(frozen=True)
class RestartRequested:
    """A user requests a restart: a new process under the same name."""

    busy: bool = True
    new_key: bool = False
    now: bool = False  # whether to send a signal at once, without a shutdown_request
    why: str = "restart was requested"
    session: Session | None = None  # of the owner's client


@dataclass(frozen=True)
class Launched:
    """The process of this generation exists."""

    generation: int


@dataclass(frozen=True)
class LaunchFailed:
    """The launch failed; ``passing`` means a temporary cause, such as a full disk.

    ``roll`` is a random number from 0 to 1 for the jitter of a retry.
    """

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
    that an administrator stopped the kernel's unit. ``ports_taken`` means that other programs used
    the kernel's ports. ``trial_failed`` means that the start tried a wire (Unix sockets or CURVE)
    that the kernel may not support, and that the kernel exited before it answered. ``roll`` is a
    random number from 0 to 1 for the jitter of a retry; the event carries the number, because
    `decide` draws no random numbers.
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
    """The kernel does not use the sockets or the keys of its connection file.

    An adopted kernel is reported only if no client can have reached it. ``may_fall_back`` means
    that the start tried these sockets or keys although the kernel might not support them. In this
    case, the kernel is launched again on plain tcp.
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
    """A kernel that is being stopped has not exited yet, or its shim has not recorded the exit.

    ``waits_for`` is shown to users. ``children_alone`` is true if the kernel has descendants and
    all of them are zombies. A zombie is a child that has exited and that the kernel has not
    collected. ``since_request_s`` is the number of seconds since the ``shutdown_request``.
    ``by_shim`` is true if the kernel has exited and the shim has not recorded the exit.
    """

    generation: int
    waits_for: str
    children_alone: bool
    since_request_s: float
    by_shim: bool = False


@dataclass(frozen=True)
class Lingers:
    """A kernel has replied to ``shutdown_request`` and has nothing left to do, but does not exit.

    Earlier processes of the same software did not exit by themselves either.
    """

    generation: int


@dataclass(frozen=True)
class DeadlinePassed:
    """`Lifecycle.deadline` has passed."""


@dataclass(frozen=True)
class Adopted:
    """A new daemon adopts the kernel.

    Either the process of the recorded generation is alive, or the kernel waits in ``backoff``.
    """

    generation: int


@dataclass(frozen=True)
class Discovered:
    """A new daemon found a process that a shim recorded and that the kernel's record does not name.

    If the kernel's record was lost, the process may have exited; otherwise the process is alive.
    ``launch`` is the generation of the process and becomes the generation of the kernel.
    """

    launch: int


@dataclass(frozen=True)
class AdoptionUnanswered:
    """An adopted process has not answered its first ``kernel_info_request`` yet."""

    generation: int


@dataclass(frozen=True)
class NeverLaunched:
    """A new daemon found that no launch followed the previous daemon's decision to launch."""

    generation: int


@dataclass(frozen=True)
class MachineRestarted:
    """A new daemon found that the machine has restarted since the kernel's process was launched."""

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
    | Lingers
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
    """Launch a process; ``new_key`` and ``new_ports`` say what to replace in the connection.

    ``fallback`` means that this launch uses plain tcp, or a wire that the kernel is known to
    support: the previous process of the same start tried Unix sockets or CURVE, and could not be
    reached.
    """

    generation: int
    new_key: bool = False
    new_ports: bool = False
    fallback: bool = False


@dataclass(frozen=True)
class TakeStep:
    """Take one step of a stop.

    ``restart`` is the field of this name in the ``shutdown_request``. The field tells the kernel
    and its clients that a new process with the same connection follows.
    """

    step: Step
    restart: bool = False


@dataclass(frozen=True)
class CleanUp:
    """Remove the kernel's connection file and sockets, and release its ports."""


Command = Launch | TakeStep | CleanUp
