"""Stops kernels that have been idle for longer than their profile allows.

A kernel is stopped if it passes four checks, in this order. First, according to the kernel's status
messages, no request has been open for the time ``idle.stop_after``. Second, no client is connected.
Third, the kernel's processes have used almost no processor time. Fourth, the kernel's main shell
and all its subshells answer. If a kernel fails only the third or fourth check, ``kconnd-ctl info``
shows the reason.

A thread reads the processes and sockets of all due kernels together.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kconnd.core.kernel.events import StopRequested
from kconnd.core.kernel.idleness import Sample, describe_use, measured_span_s, trim_samples
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.profile.quantities import format_duration
from kconnd.daemon.kernel.actor import Actor
from kconnd.daemon.kernel.readings import Readings
from kconnd.launchers.base import Handle
from kconnd.system.process.connected_clients import ClientCounter
from kconnd.system.process.resource_usage import tree_cpu_seconds

log = logging.getLogger("kconnd")

SAMPLES_PER_SPAN = 6
UNPROVEN = "it has not reported the end of a request"
SPANS_AHEAD = 2.0  # how many spans before a due stop the sampling of processor time begins


@dataclass
class Idler:
    """The samples of one kernel that may be idle.

    Parameters
    ----------
    generation : int
        The generation of the process.
    samples : sequence of Sample
        Samples of the processor time of the process and its descendants, oldest first.
    """

    generation: int
    samples: Sequence[Sample] = ()


class Idling:
    """Finds and stops idle kernels.

    Parameters
    ----------
    readings : Readings
        The object that stores why a kernel is kept alive.
    clock : callable
        A function that returns monotonic seconds.
    """

    def __init__(self, readings: Readings, clock: Callable[[], float]) -> None:
        self._readings, self._clock = readings, clock
        self._idlers: dict[str, Idler] = {}
        self._check: asyncio.Task[None] | None = None

    def check(self, actors: Iterable[Actor]) -> None:
        """Begin to check the kernels that are due; do nothing if a check is still running."""
        if self._check is None or self._check.done():
            due = [actor for actor in actors if self._is_due(actor)]
            if due:
                self._check = asyncio.get_running_loop().create_task(self._check_all(due))

    def _is_due(self, actor: Actor) -> bool:
        """Return whether a kernel needs a sample now; drop the samples of a busy kernel."""
        name, now, stop_after = actor.record.name, self._clock(), _stop_after(actor)
        idle = idle_for(actor, now)
        span = measured_span_s(stop_after)
        if idle is None or math.isinf(stop_after) or idle < stop_after - SPANS_AHEAD * span:
            self._idlers.pop(name, None)
            reason = UNPROVEN if _is_unproven(actor, now - stop_after) else ""
            self._readings.note_kept_alive(actor, reason)
            return False
        idler = self._idlers.get(name)
        if idler is None or idler.generation != actor.kernel.generation:
            self._idlers[name] = idler = Idler(actor.kernel.generation)
        return not idler.samples or now - idler.samples[-1].at >= span / SAMPLES_PER_SPAN

    async def _check_all(self, actors: Sequence[Actor]) -> None:
        """Check kernels; an exception is only logged, because the next round repeats the check."""
        try:
            await self._sample(actors)
        except Exception:
            log.exception("checking for idle kernels")

    async def _sample(self, actors: Sequence[Actor]) -> None:
        processes = [(actor.process.handle, actor.process.connection) for actor in actors]
        readings = await asyncio.to_thread(_read, processes)
        for actor, (used, clients) in zip(actors, readings, strict=True):
            idler = self._idlers.get(actor.record.name)
            if idler is not None and actor.kernel.generation == idler.generation:
                sample = Sample(self._clock(), used)
                self._judge(actor, idler, sample, clients)

    def _judge(self, actor: Actor, idler: Idler, sample: Sample, clients: int | None) -> None:
        stop_after = _stop_after(actor)
        span = measured_span_s(stop_after)
        idler.samples = trim_samples([*idler.samples, sample], span)
        idle, why = idle_for(actor, sample.at), describe_use(idler.samples, span)
        if idle is None or idle < stop_after or clients != 0:
            self._readings.note_kept_alive(actor, "")
        elif why:
            self._readings.note_kept_alive(actor, why)
        elif why is not None:
            actor.process.spawn(self._stop(actor, stop_after, idler))

    async def _stop(self, actor: Actor, stop_after: float, idler: Idler) -> None:
        """Stop an idle kernel if all its shells answer and no client has connected meanwhile."""
        process = actor.process
        if not await process.watch.is_idle():
            self._readings.note_kept_alive(actor, "one of its shells did not answer in time")
            return
        self._readings.note_kept_alive(actor, "")
        clients = (await asyncio.to_thread(_read, [(process.handle, process.connection)]))[0][1]
        if clients == 0 and actor.kernel.generation == idler.generation and process.watch.is_sure:
            span = format_duration(stop_after)
            why = f"nothing ran for {span} and no client is connected"
            actor.enqueue(StopRequested(busy=False, why=why))


def _stop_after(actor: Actor) -> float:
    return actor.profile.idle.stop_after


def _is_unproven(actor: Actor, before: float) -> bool:
    """Return whether a kernel counts as busy only because the end of a request is not reported.

    The last sign of activity must be older than ``before``, a time in monotonic seconds.
    """
    activity = actor.process.watch.activity
    return bool(
        activity and activity.unproven and activity.state == "idle" and activity.active_at < before
    )


def idle_for(actor: Actor, now: float) -> float | None:
    """Return for how many seconds a kernel has been idle; None if the kernel may be busy."""
    activity = actor.process.watch.activity
    return now - activity.active_at if activity and activity.is_sure else None


def _read(
    processes: Iterable[tuple[Handle | None, ConnectionInfo | None]],
) -> list[tuple[dict[tuple[int, int], float], int | None]]:
    """Read, for each kernel, the processor time of its processes and the number of its clients.

    The descendants of the shim and those of the kernel are both read, because a shim that was
    killed is no longer the kernel's parent.
    """
    counter = ClientCounter()
    return [
        (
            tree_cpu_seconds(handle.shim, handle.kernel) if handle else {},
            counter.count(connection, handle.kernel.pid) if handle and connection else None,
        )
        for handle, connection in processes
    ]
