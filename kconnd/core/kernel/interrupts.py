"""When a kernel may be interrupted, and whether an interrupt ended it: pure.

Rules. A kernel that starts has no cell to interrupt, and many end by SIGINT before their first
answer: ipykernel 7.4 does. Some end by it at any time: xeus-python, deno, Kotlin, JJava, ilua.
An end is put down to an interrupt only where somebody asked for that, it came just before, and
the end is of a kind that an interrupt leads to: killed by SIGINT, or exited by itself. It is not
where a stop began since, which interrupts as well, or where the kernel worked on another request
since: then it lived through the interrupt, and its end may be the user's own `exit()`.
"""

import signal

from kconnd.core.kernel.lifecycle import Lifecycle, Policy, State

ENDED_BY_WINDOW_S = 3.0  # between an interrupt and the end that is put down to it


def has_no_cell(kernel: Lifecycle, age_s: float, policy: Policy) -> bool:
    """Tell whether a kernel is too young to run a cell.

    Parameters
    ----------
    kernel : Lifecycle
        Where it stands.
    age_s : float
        Seconds since its process was started.
    policy : Policy
        What its profile says of a start. A kernel whose start a daemon did not see to its end
        has no deadline: once it is older than a start may take, it may run a cell that
        keeps it from answering.
    """
    if kernel.state is State.LAUNCHING:
        return True
    adopted = kernel.deadline is None
    return kernel.state is State.STARTING and not (adopted and age_s > policy.startup_timeout)


def ended_by_interrupt(
    code: int | None, number: int | None, *, oom: bool, interrupted_s: float | None
) -> bool:
    """Tell whether an interrupt of ours ended a kernel.

    Parameters
    ----------
    code, number : int, optional
        Its exit status, or the signal that ended it; neither where nobody saw that.
    oom : bool
        Whether it went over its memory limit.
    interrupted_s : float, optional
        Seconds from the last interrupt that somebody asked for to the end; None where there was
        none, or a stop or another request came after it.
    """
    if interrupted_s is None or interrupted_s > ENDED_BY_WINDOW_S or oom:
        return False
    return code is not None or number == signal.SIGINT
