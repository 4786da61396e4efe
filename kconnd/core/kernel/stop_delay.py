"""Describes to users what delays the exit of a kernel that is being stopped.

A kernel replies to ``shutdown_request`` before it exits. The kernel's child processes show what the
kernel waits for. ipykernel terminates its children and waits until each child has disappeared. A
zombie, an exited child that the kernel has not collected, never disappears; ipykernel then waits
for its whole timeout. ipykernel runs its atexit functions after this wait.
"""

from collections.abc import Mapping, Sequence

from kconnd.core.kernel.events import Step
from kconnd.core.kernel.lifecycle import Lifecycle, State

LINGERING_S = 2.0  # after the reply, until a kernel that is known to stay gets SIGTERM
STAYING_S = 5.0  # at rest after the reply, which shows that a kernel stays
MAX_RESTING_CORE_SHARE = 0.05  # an idle JVM uses less
RESTING_USE_S = 0.02  # always allowed, because Linux counts processor time in steps of 10 ms
MAX_NAMED_PROCESSES = 3  # further processes are only counted
IPYKERNEL = "ipython"  # the field "implementation" in a kernel_info_reply of ipykernel
IPYKERNEL_WAIT = "ipykernel 7.4 waits 29 s for it"
_BY_STEP = {
    Step.INTERRUPT: "its cell to end after an interrupt",
    Step.SHUTDOWN: "its reply to shutdown_request",
    Step.TERMINATE: "its exit after SIGTERM",
    Step.KILL: "its exit after SIGKILL",
}


def describe_delay(live: Sequence[tuple[int, str]], ended: int, implementation: str) -> str:
    """Describe what delays the exit of a kernel that has replied to ``shutdown_request``.

    Parameters
    ----------
    live : sequence of tuple
        Pid and program name of each live descendant of the kernel.
    ended : int
        The number of zombies: children that have exited and that the kernel has not collected.
    implementation : str
        The kernel's implementation, from its kernel_info_reply.
    """
    if live:
        named = ", ".join(f"{pid} ({program})" for pid, program in live[:MAX_NAMED_PROCESSES])
        more = (
            f" and {len(live) - MAX_NAMED_PROCESSES} more"
            if len(live) > MAX_NAMED_PROCESSES
            else ""
        )
        return f"its child processes to exit: {named}{more}"
    if ended:
        children = "its exited child" if ended == 1 else f"its {ended} exited children"
        return f"{children}; {IPYKERNEL_WAIT}" if implementation == IPYKERNEL else children
    return "its own exit; it has replied to shutdown_request and has no children"


def describe_shim(pid: int, *, stopped: bool) -> str:
    """Describe a shim that does not record the exit of its kernel, although the kernel has exited.

    Parameters
    ----------
    pid : int
        The pid of the shim.
    stopped : bool
        Whether a signal, such as SIGSTOP, has stopped the shim.
    """
    if stopped:
        return f"its shim, pid {pid}, which a signal has stopped; kill -CONT {pid} continues it"
    return f"its shim, pid {pid}, which hangs; it may wait for a disk that does not answer"


Used = Mapping[tuple[int, int], float]


def is_at_rest(before: Used, after: Used, span_s: float) -> bool:
    """Return whether a process tree used hardly any processor time between two readings.

    Parameters
    ----------
    before, after : mapping
        Seconds of processor time of each process, by pid and start time.
    span_s : float
        The time between the readings, in seconds.
    """
    if not after or before.keys() != after.keys():
        return False
    used = sum(after.values()) - sum(before.values())
    return used <= max(span_s * MAX_RESTING_CORE_SHARE, RESTING_USE_S)


def describe_wait(kernel: Lifecycle) -> str | None:
    """Describe what the present stop waits for; None if the kernel is not being stopped."""
    if kernel.state is not State.STOPPING or kernel.step is None:
        return None
    return kernel.waits_for or _BY_STEP[kernel.step]
