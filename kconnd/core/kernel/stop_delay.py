"""What a kernel waits for that was asked to end and lives on: pure, for people.

A kernel replies to ``shutdown_request`` first and ends afterwards. What it does in between is
seen from outside by the processes below it. ipykernel terminates its children, and waits for
each of them to go; one that has ended and that nobody has collected (a zombie) does not go, so
it takes all the time that ipykernel has for that. Only then do its atexit functions run.
"""

from collections.abc import Sequence

from kconnd.core.kernel.events import Step
from kconnd.core.kernel.lifecycle import Lifecycle, State

MAX_NAMED_PROCESSES = 3  # processes that are named
IPYKERNEL = "ipython"  # as it calls itself in kernel_info_reply
IPYKERNEL_WAIT = "ipykernel 7.4 needs 29 s for that"
_BY_STEP = {
    Step.INTERRUPT: "its cell to end after an interrupt",
    Step.SHUTDOWN: "its reply to shutdown_request",
    Step.TERMINATE: "its end after SIGTERM",
    Step.KILL: "its end after SIGKILL",
}


def describe_delay(live: Sequence[tuple[int, str]], ended: int, implementation: str) -> str:
    """Say what the end of a kernel waits for that has replied to ``shutdown_request``.

    Parameters
    ----------
    live : sequence of tuple
        Pid and name of the program of each live process below the kernel.
    ended : int
        How many of its children have ended and were not collected.
    implementation : str
        What the kernel calls itself.
    """
    if live:
        named = ", ".join(f"{pid} ({program})" for pid, program in live[:MAX_NAMED_PROCESSES])
        more = (
            f" and {len(live) - MAX_NAMED_PROCESSES} more"
            if len(live) > MAX_NAMED_PROCESSES
            else ""
        )
        return f"its child processes to end: {named}{more}"
    if ended:
        children = "its ended child" if ended == 1 else f"its {ended} ended children"
        return f"{children}; {IPYKERNEL_WAIT}" if implementation == IPYKERNEL else children
    return "its own end; it has replied to shutdown_request, and has no children"


def describe_wait(kernel: Lifecycle) -> str | None:
    """Say what a stop that is under way waits for; None where there is none."""
    if kernel.state is not State.STOPPING or kernel.step is None:
        return None
    return kernel.waits_for or _BY_STEP[kernel.step]
