"""The orderly end of one kernel: ``shutdown_request``, its reply, and what the end waits for then.

Rules. Nothing is decided here. A kernel that has replied and lives on is looked at from outside:
the processes below it say what it waits for. This ends with the task that runs it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kconnd.core.kernel.events import EndDelayed
from kconnd.core.kernel.stop_delay import describe_delay
from kconnd.system.process.processes import (
    ProcessId,
    descendants,
    in_group,
    program_of,
    split_ended,
)

FIRST_LOOK_S = 0.4  # after the reply: nearly all kernels have ended by then
FIRST_INTERVAL_S, MAX_INTERVAL_S = 0.5, 2.0  # doubled after each look: many may end at once


@dataclass(frozen=True)
class Ending:
    """The process that is to end.

    Parameters
    ----------
    process : ProcessId
        The kernel.
    generation : int
        Of its launch.
    implementation : str
        What the kernel calls itself.
    """

    process: ProcessId
    generation: int
    implementation: str


async def shut_down(
    request: Callable[[], Awaitable[bool]],
    ending: Ending,
    tell: Callable[[EndDelayed], None],
    clock: Callable[[], float],
) -> None:
    """Ask a kernel to end, and report what its end waits for, until cancelled.

    Parameters
    ----------
    request : callable
        Sends the request and waits for the reply; false where it could not be sent.
    ending : Ending
        Which kernel.
    tell : callable
        Takes an event each time that this changes.
    clock : callable
        Monotonic seconds.
    """
    asked = clock()
    if not await request():
        return
    told: tuple[str, bool] | None = None
    interval = FIRST_INTERVAL_S
    await asyncio.sleep(FIRST_LOOK_S)
    while True:
        seen = await asyncio.to_thread(look_at, ending)
        if seen != told:
            told = seen
            tell(EndDelayed(ending.generation, *seen, clock() - asked))
        await asyncio.sleep(interval)
        interval = min(2 * interval, MAX_INTERVAL_S)


def look_at(ending: Ending) -> tuple[str, bool]:
    """Say what a kernel's end waits for, and whether that is ended children alone.

    ipykernel waits for the children in its own process group. What a cell has started in another
    lives on, and is ended by the shim afterwards.
    """
    below = descendants(ending.process)
    live, ended = split_ended(in_group(ending.process.pid, below))
    if not live and not ended:
        live, ended = split_ended(below)
    named = [(one.pid, program_of(one.pid)) for one in live]
    return describe_delay(named, ended, ending.implementation), bool(ended and not live)
