"""Decides whether a kernel may be interrupted, and whether an interrupt caused a kernel's exit.

Rules. A starting kernel is not interrupted. A starting kernel has no cell to interrupt, and SIGINT
terminates many kernels, such as ipykernel 7.4, if it arrives before their first answer.
xeus-python, deno, Kotlin, JJava and ilua are terminated by SIGINT at any time.

An interrupt counts as the cause of an exit under three conditions:

- A user requested the interrupt shortly before the exit.
- The kernel was killed by SIGINT, or exited by itself.
- Between the interrupt and the exit, no stop began and the kernel worked on no other request. (A
  stop sends an interrupt of its own. A kernel that works on another request has survived the user's
  interrupt, and this request may be a call of `exit()`.)
"""

import signal

from kconnd.core.kernel.lifecycle import Lifecycle, Policy, State

ENDED_BY_WINDOW_S = 3.0  # the longest time from an interrupt to an exit that it caused


def has_no_cell(kernel: Lifecycle, age_s: float, policy: Policy) -> bool:
    """Return whether a kernel cannot run a cell yet, because it is launching or starting.

    If a kernel in ``starting`` has no deadline, it was adopted, and the previous daemon recorded no
    answer of the kernel. Such a kernel may have become ready while no daemon ran. If it has not
    answered the new daemon by the start timeout, the reason may be that it is running a cell.

    Parameters
    ----------
    kernel : Lifecycle
        The kernel.
    age_s : float
        Seconds since the process was started.
    policy : Policy
        The rules of the kernel's profile.
    """
    if kernel.state is State.LAUNCHING:
        return True
    adopted = kernel.deadline is None
    return kernel.state is State.STARTING and not (adopted and age_s > policy.startup_timeout)


def ended_by_interrupt(
    code: int | None, number: int | None, *, oom: bool, interrupted_s: float | None
) -> bool:
    """Return whether an interrupt caused the exit of a kernel.

    Parameters
    ----------
    code, number : int, optional
        The exit code of the kernel, or the number of the signal that killed it. Both are None if
        the exit status is unknown.
    oom : bool
        Whether the kernel was killed because memory ran out.
    interrupted_s : float, optional
        Seconds from the last requested interrupt to the exit. None if no interrupt was requested,
        or if a stop or another request followed the last interrupt.
    """
    if interrupted_s is None or interrupted_s > ENDED_BY_WINDOW_S or oom:
        return False
    return code is not None or number == signal.SIGINT
