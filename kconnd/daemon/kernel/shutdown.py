"""The orderly shutdown of a kernel: sends ``shutdown_request`` and reports delays of the exit.

This module makes no decisions. If a kernel has replied to ``shutdown_request`` and has not exited,
its child processes show the reason of the delay. If the kernel and its descendants use no processor
time, the kernel has nothing left to do. Some kernels stay in this state for ever, such as JJava
after a cell.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from kconnd.core.kernel.events import ExitDelayed, Lingers
from kconnd.core.kernel.stop_delay import (
    LINGERING_S,
    STAYING_S,
    describe_delay,
    describe_shim,
    is_at_rest,
)
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
from kconnd.system.process.resource_usage import tree_cpu_seconds

FIRST_CHECK_S = 0.4  # after the reply; nearly all kernels have exited by then
STOPPED_STATES = frozenset("Tt")  # in proc_pid_stat(5): stopped by a signal or by a debugger
# The interval doubles after each check, because many kernels may exit at once.
FIRST_INTERVAL_S, MAX_INTERVAL_S = 0.5, 2.0
LINGERING_INTERVAL_S = 0.4  # for a kernel that is known to stay

Used = Mapping[tuple[int, int], float]


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


class StayMemory(Protocol):
    """The part of `kconnd.daemon.kernel.observing.Observer` that a shutdown uses."""

    async def is_known_to_stay(self) -> bool:
        """Return whether the software is known not to exit after its reply to a shutdown."""
        ...

    def note_stay(self, seconds: float) -> None:
        """Note that the process is alive and at rest ``seconds`` after its reply to a shutdown."""
        ...


@dataclass
class Rest:
    """The rest of a process tree: the period in which the tree uses no processor time.

    Parameters
    ----------
    since, at : float
        The times of the beginning of the rest and of the last reading, in monotonic seconds.
    used : mapping
        The processor time of each process at the last reading, in seconds, by pid and start time.
    """

    since: float
    at: float
    used: Used = field(default_factory=dict)

    def look(self, used: Used, now: float) -> float:
        """Store the reading ``used`` of the time ``now``; return the seconds of rest so far."""
        if not is_at_rest(self.used, used, now - self.at):
            self.since = now
        self.used, self.at = used, now
        return now - self.since


async def shut_down(
    request: Callable[[], Awaitable[bool]],
    ending: Ending,
    report: Callable[[ExitDelayed | Lingers], None],
    clock: Callable[[], float],
    memory: StayMemory,
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
    memory : StayMemory
        The object that stores whether earlier processes of this software exited after their reply.
    """
    requested_at = clock()
    if not await request():
        return
    reported: tuple[str, bool] | None = None
    replied_at = clock()
    rest, interval, is_noted = Rest(replied_at, replied_at), FIRST_INTERVAL_S, False
    await asyncio.sleep(FIRST_CHECK_S)
    stays = await memory.is_known_to_stay()
    while True:
        delay, used = await asyncio.to_thread(_look, ending)
        now = clock()
        if not used:  # it has exited; see watch_shim
            await asyncio.sleep(interval)
            continue
        if delay != reported:
            reported = delay
            report(ExitDelayed(ending.generation, *delay, now - requested_at))
        rest_s = rest.look(used, now)
        if stays and now - replied_at >= LINGERING_S and rest_s >= LINGERING_S / 2:
            report(Lingers(ending.generation))
            return
        if rest_s >= STAYING_S and not is_noted:
            is_noted = True
            memory.note_stay(now - replied_at)
        await asyncio.sleep(LINGERING_INTERVAL_S if stays else interval)
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


def _look(ending: Ending) -> tuple[tuple[str, bool], Used]:
    """Return the result of `find_delay`, and the processor time of each process.

    After the exit, both are empty.
    """
    if state_of(ending.process).encode() in DEAD_STATES:
        return ("", False), {}
    return find_delay(ending), tree_cpu_seconds(ending.process)


def find_delay(ending: Ending) -> tuple[str, bool]:
    """Return the cause of a delayed exit, and whether the kernel waits only for zombies.

    ipykernel waits for the children in its own process group, so these are reported as the cause.
    If there are none, all descendants are reported.
    """
    below = descendants(ending.process)
    live, ended = split_zombies(in_group(ending.process.pid, below))
    if not live and not ended:
        live, ended = split_zombies(below)
    named = [(process.pid, program_of(process.pid)) for process in live]
    return describe_delay(named, ended, ending.implementation), bool(ended and not live)
