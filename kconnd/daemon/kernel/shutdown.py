"""The orderly shutdown of one kernel: ``shutdown_request``, its reply, and what delays the exit.

This module decides nothing. If a kernel has replied and still lives, its child processes show what
it waits for.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kconnd.core.kernel.events import ExitDelayed
from kconnd.core.kernel.stop_delay import describe_delay
from kconnd.system.process.processes import (
    ProcessId,
    descendants,
    in_group,
    program_of,
    split_zombies,
)

FIRST_CHECK_S = 0.4  # after the reply; nearly all kernels have exited by then
# Doubled after each check, since many kernels may end at once.
FIRST_INTERVAL_S, MAX_INTERVAL_S = 0.5, 2.0


@dataclass(frozen=True)
class Ending:
    """The process that shuts down.

    Parameters
    ----------
    process : ProcessId
        The kernel.
    generation : int
        Of its launch.
    implementation : str
        The kernel's name for its software.
    """

    process: ProcessId
    generation: int
    implementation: str


async def shut_down(
    request: Callable[[], Awaitable[bool]],
    ending: Ending,
    report: Callable[[ExitDelayed], None],
    clock: Callable[[], float],
) -> None:
    """Send ``shutdown_request``, and report what delays the exit, until cancelled.

    Parameters
    ----------
    request : callable
        Sends the request and waits for the reply; returns false where it could not be sent.
    ending : Ending
        Which kernel.
    report : callable
        Takes an event each time that the cause of the delay changes.
    clock : callable
        Monotonic seconds.
    """
    requested_at = clock()
    if not await request():
        return
    reported: tuple[str, bool] | None = None
    interval = FIRST_INTERVAL_S
    await asyncio.sleep(FIRST_CHECK_S)
    while True:
        delay = await asyncio.to_thread(find_delay, ending)
        if delay != reported:
            reported = delay
            report(ExitDelayed(ending.generation, *delay, clock() - requested_at))
        await asyncio.sleep(interval)
        interval = min(2 * interval, MAX_INTERVAL_S)


def find_delay(ending: Ending) -> tuple[str, bool]:
    """Return what delays a kernel's exit, and whether it is only children that have exited.

    ipykernel waits for the children in its own process group. Children that a cell has started in
    another group live on, and the shim terminates them afterwards.
    """
    below = descendants(ending.process)
    live, ended = split_zombies(in_group(ending.process.pid, below))
    if not live and not ended:
        live, ended = split_zombies(below)
    named = [(process.pid, program_of(process.pid)) for process in live]
    return describe_delay(named, ended, ending.implementation), bool(ended and not live)
