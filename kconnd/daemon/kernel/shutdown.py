"""The orderly shutdown of a kernel: sends ``shutdown_request`` and reports delays of the exit.

This module makes no decisions. If a kernel has replied to ``shutdown_request`` and has not exited,
its child processes show the reason of the delay.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kconnd.core.kernel.events import ExitDelayed
from kconnd.core.kernel.stop_delay import describe_delay, describe_shim
from kconnd.launchers.base import Handle
from kconnd.system.process.processes import (
    DEAD_STATES,
    ProcessId,
    descendants,
    in_group,
    program_of,
    split_zombies,
    state_of,
)

FIRST_CHECK_S = 0.4  # after the reply; nearly all kernels have exited by then
STOPPED_STATES = frozenset("Tt")  # in proc_pid_stat(5): stopped by a signal or by a debugger
# The interval doubles after each check, because many kernels may exit at once.
FIRST_INTERVAL_S, MAX_INTERVAL_S = 0.5, 2.0


@dataclass(frozen=True)
class Ending:
    """A process that is shutting down.

    Parameters
    ----------
    process : ProcessId
        The process of the kernel.
    generation : int
        The generation of the process.
    implementation : str
        The name of the implementation in the kernel_info_reply.
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
    """Send ``shutdown_request``; then report the causes of a delayed exit until cancelled.

    Parameters
    ----------
    request : callable
        A function that sends the request, waits for the reply and returns True; it returns False if
        the request could not be sent.
    ending : Ending
        The process that is shutting down.
    report : callable
        A function that receives an event whenever the cause of the delay changes.
    clock : callable
        A function that returns monotonic seconds.
    """
    requested_at = clock()
    if not await request():
        return
    reported: tuple[str, bool] | None = None
    interval = FIRST_INTERVAL_S
    await asyncio.sleep(FIRST_CHECK_S)
    while True:
        delay = await asyncio.to_thread(find_delay, ending)
        is_alive = state_of(ending.process).encode() not in DEAD_STATES  # if dead, see watch_shim
        if delay != reported and is_alive:
            reported = delay
            report(ExitDelayed(ending.generation, *delay, clock() - requested_at))
        await asyncio.sleep(interval)
        interval = min(2 * interval, MAX_INTERVAL_S)


async def watch_shim(handle: Handle, report: Callable[[ExitDelayed], None]) -> None:
    """Watch until cancelled; report if the shim does not record the exit of its kernel.

    Parameters
    ----------
    handle : Handle
        The kernel and its shim.
    report : callable
        A function that receives the event, once.
    """
    while True:
        await asyncio.sleep(FIRST_CHECK_S)  # a shim records an exit within milliseconds
        if reason := find_shim_delay(handle):
            report(ExitDelayed(handle.generation, reason, False, 0.0, by_shim=True))  # noqa: FBT003  # children_alone
            return


def find_shim_delay(handle: Handle) -> str:
    """Describe why a kernel's exit is not recorded; ``""`` if the kernel's process still runs."""
    if state_of(handle.kernel).encode() not in DEAD_STATES:
        return ""
    return describe_shim(handle.shim.pid, stopped=state_of(handle.shim) in STOPPED_STATES)


def find_delay(ending: Ending) -> tuple[str, bool]:
    """Return the cause of a delayed exit, and whether the cause consists of zombies alone.

    ipykernel waits for the children in its own process group. After the kernel's exit, the shim
    terminates the children in other process groups.
    """
    below = descendants(ending.process)
    live, ended = split_zombies(in_group(ending.process.pid, below))
    if not live and not ended:
        live, ended = split_zombies(below)
    named = [(process.pid, program_of(process.pid)) for process in live]
    return describe_delay(named, ended, ending.implementation), bool(ended and not live)
