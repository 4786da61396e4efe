"""Decides whether a kernel may be interrupted, and what an interrupt has caused.

Rules. A starting kernel is not interrupted. A starting kernel has no cell to interrupt, and SIGINT
terminates many kernels, such as ipykernel 7.4, if it arrives before their first answer.
xeus-python, deno, Kotlin, JJava and ilua are terminated by SIGINT at any time.

An interrupt counts as the cause of an exit under three conditions:

- A user requested the interrupt shortly before the exit.
- The kernel was killed by SIGINT, or exited by itself.
- Between the interrupt and the exit, no stop began and the kernel worked on no other request. (A
  stop sends an interrupt of its own. A kernel that works on another request has survived the user's
  interrupt, and this request may be a call of `exit()`.)

An interrupt has had an effect if the requests that the kernel worked on have ended afterwards.
ipykernel 7 runs cells of subshells in threads. Python delivers SIGINT to the main thread alone, so
an interrupt does not reach these cells; the ``interrupt_request`` of ipykernel sends SIGINT, too.
"""

import signal
from enum import StrEnum

from kconnd.core.kernel.activity import OpenRequests
from kconnd.core.kernel.lifecycle import Lifecycle, Policy, State

ENDED_BY_WINDOW_S = 3.0  # the longest time from an interrupt to an exit that it caused
UNREACHED = "ipykernel can interrupt the main shell only"
IPYKERNEL = "ipython"  # the name of ipykernel's implementation in a kernel_info_reply


class Effect(StrEnum):
    """The effect of a requested interrupt; the values are part of the public interface."""

    IDLE = "idle"  # the kernel ran nothing, so nothing was sent
    SENT = "sent"  # the interrupt was sent, and it is unknown what it interrupted
    ENDED = "ended"  # the running cells have ended after the interrupt
    SUBSHELL_RUNS = "subshell-runs"  # the cell of the main shell has ended; one in a subshell runs
    IGNORED = "ignored"  # no cell has ended


def effect_of(before: OpenRequests, after: OpenRequests) -> Effect:
    """Decide what an interrupt has caused, from the requests before it and some time after it."""
    main, subshells = before.main & after.main, before.subshells & after.subshells
    if not main and not subshells:
        return Effect.ENDED
    if main | subshells <= after.unproven:
        return Effect.SENT  # the kernel may publish no end of a cell at all
    return Effect.SUBSHELL_RUNS if before.main and not main else Effect.IGNORED


def describe_subshells(requests: OpenRequests, implementation: str) -> str:
    """Describe that a kernel works in subshells only; ``""`` if it does not."""
    if not requests.is_in_subshells_only:
        return ""
    runs = "it runs a cell in a subshell only"
    return f"{runs}; {UNREACHED}" if implementation == IPYKERNEL else runs


def describe_ignored(name: str, seconds: float, before: OpenRequests, implementation: str) -> str:
    """Describe that an interrupt had no effect.

    Parameters
    ----------
    name : str
        The kernel's name.
    seconds : float
        The time since the interrupt.
    before : OpenRequests
        The requests before the interrupt. If they are empty, the kernel has published none, and
        answers no request.
    implementation : str
        The kernel's implementation, from its ``kernel_info_reply``.
    """
    sent = f"interrupting {name}: the interrupt was sent, but"
    if not before:
        return f"{sent} the kernel has not answered on its shell channel for {seconds:.0f} s"
    if not before.is_in_subshells_only:
        return f"{sent} the cell still runs after {seconds:.0f} s"
    runs = f"{sent} the cell still runs after {seconds:.0f} s, in a subshell"
    return f"{runs}; {UNREACHED}" if implementation == IPYKERNEL else runs


def hint_after_ignored(name: str) -> str:
    """Return the next steps after an interrupt without an effect."""
    return (
        f"kconnd-ctl interrupt {name} sends another one; "
        f"kconnd-ctl restart {name} ends the cell, and loses the kernel's data as well"
    )


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
