"""Decides whether a kernel may be interrupted, and whether an interrupt ended it.

Rules. A starting kernel has no cell to interrupt, and SIGINT ends many kernels before their first
answer, ipykernel 7.4 too. It ends some at any time: xeus-python, deno, Kotlin, JJava, ilua.

An exit counts as caused by an interrupt if a user requested the interrupt just before, and if the
kernel was killed by SIGINT or exited by itself. It does not count if a stop began in between,
since a stop interrupts as well. Nor does it count if the kernel worked on another request in
between: it survived the interrupt then, and its exit may be the user's own `exit()`.
"""

import signal

from kconnd.core.kernel.lifecycle import Lifecycle, Policy, State

ENDED_BY_WINDOW_S = 3.0  # between an interrupt and an exit that it caused


def has_no_cell(kernel: Lifecycle, age_s: float, policy: Policy) -> bool:
    """Return whether a kernel cannot run a cell yet, because it is launching or starting.

    Parameters
    ----------
    kernel : Lifecycle
        The kernel.
    age_s : float
        Seconds since its process was started.
    policy : Policy
        The rules of its profile. A kernel that was adopted during its start has no deadline:
        once it is older than the start timeout, it may run a cell that keeps it from answering.
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
        Its exit status, or the signal that ended it; neither if it is unknown.
    oom : bool
        Whether it was killed for memory.
    interrupted_s : float, optional
        Seconds from the last requested interrupt to the exit; None without one, or if a stop or
        another request followed it.
    """
    if interrupted_s is None or interrupted_s > ENDED_BY_WINDOW_S or oom:
        return False
    return code is not None or number == signal.SIGINT
