"""Stops kernels that idle for longer than their profile allows, once that is beyond doubt.

A kernel has to pass, in this order: nothing that it published leaves a request open, for
``idle.stop_after``; no client is connected; its processes have used next to no processor time;
each of its shells answers. Then it is asked to end. What keeps one alive is shown by ``info``.

What has to be read of processes and sockets is read in a thread, for all kernels at once.
"""

import asyncio
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kconnd.core.kernel.events import StopRequested
from kconnd.core.kernel.idleness import Sample, describe_use, measured_span_s, trim_samples
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.profile.quantities import format_duration
from kconnd.daemon.context import World
from kconnd.daemon.kernel.actor import Actor
from kconnd.launchers.base import Handle
from kconnd.system.process.connected_clients import ClientCounter
from kconnd.system.process.resource_usage import tree_cpu_seconds

log = logging.getLogger("kconnd")

SAMPLES = 6  # that a span is divided into at the most
UNPROVEN = "a request of it never said that it is done"
AHEAD = 2.0  # spans before a kernel has idled for long enough, in which its use is measured


@dataclass
class Idler:
    """What is known of a kernel that may be idle.

    Parameters
    ----------
    generation : int
        Of its process.
    samples : sequence of Sample
        Of that process and those below it, since it seems to be idle.
    """

    generation: int
    samples: Sequence[Sample] = ()


class Idling:
    """Looks for kernels that idle.

    Parameters
    ----------
    world : World
        What all kernels share.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._idlers: dict[str, Idler] = {}
        self._looking: asyncio.Task[None] | None = None

    def look(self, actors: Iterable[Actor]) -> None:
        """Take part in the round of some kernels; one look goes on at a time."""
        if self._looking is None or self._looking.done():
            due = [actor for actor in actors if self._is_due(actor)]
            if due:
                self._looking = asyncio.get_running_loop().create_task(self._look(due))

    def _is_due(self, actor: Actor) -> bool:
        """Tell whether a kernel is to be looked at; one that works has its samples forgotten."""
        name, now, stop_after = actor.record.name, self._world.clock(), _stop_after(actor)
        idle = idle_for(actor, now)
        span = measured_span_s(stop_after)
        if idle is None or math.isinf(stop_after) or idle < stop_after - AHEAD * span:
            self._idlers.pop(name, None)
            actor.process.kept_alive = UNPROVEN if _is_unproven(actor, now - stop_after) else ""
            return False
        known = self._idlers.get(name)
        if known is None or known.generation != actor.kernel.generation:
            self._idlers[name] = known = Idler(actor.kernel.generation)
        return not known.samples or now - known.samples[-1].at >= span / SAMPLES

    async def _look(self, actors: Sequence[Actor]) -> None:
        """Look at kernels; a fault is logged, and the next round looks again."""
        try:
            await self._read_and_take(actors)
        except Exception:
            log.exception("looking for kernels that idle")

    async def _read_and_take(self, actors: Sequence[Actor]) -> None:
        asked = [(actor.process.handle, actor.process.connection) for actor in actors]
        found = await asyncio.to_thread(_read, asked)
        for actor, (used, clients) in zip(actors, found, strict=True):
            idler = self._idlers.get(actor.record.name)
            if idler is not None and actor.kernel.generation == idler.generation:
                sample = Sample(self._world.clock(), used)
                self._take(actor, idler, sample, clients)

    def _take(self, actor: Actor, idler: Idler, sample: Sample, clients: int | None) -> None:
        stop_after = _stop_after(actor)
        span = measured_span_s(stop_after)
        idler.samples = trim_samples([*idler.samples, sample], span)
        idle, why = idle_for(actor, sample.at), describe_use(idler.samples, span)
        if idle is None or idle < stop_after or clients != 0:
            actor.process.kept_alive = ""
        elif why:
            actor.process.kept_alive = why
        elif why is not None:
            actor.process.spawn(_stop(actor, stop_after, idler))


async def _stop(actor: Actor, stop_after: float, idler: Idler) -> None:
    """Stop an idle kernel, once each of its shells has answered and still nobody came."""
    process = actor.process
    if not await process.watch.is_idle():
        process.kept_alive = "a shell of it did not answer in time"
        return
    process.kept_alive = ""
    clients = (await asyncio.to_thread(_read, [(process.handle, process.connection)]))[0][1]
    if clients == 0 and actor.kernel.generation == idler.generation and process.watch.is_sure:
        span = format_duration(stop_after)
        why = f"nothing ran for {span} and no client is connected"
        actor.enqueue(StopRequested(busy=False, why=why))


def _stop_after(actor: Actor) -> float:
    return actor.profile.idle.stop_after


def _is_unproven(actor: Actor, before: float) -> bool:
    """Tell whether a kernel would be stopped, were it not for a request that may be worked on."""
    activity = actor.process.watch.activity
    return bool(
        activity and activity.unproven and activity.state == "idle" and activity.active_at < before
    )


def idle_for(actor: Actor, now: float) -> float | None:
    """Give the seconds for which a kernel has seemed idle; None for one that may be busy."""
    activity = actor.process.watch.activity
    return now - activity.active_at if activity and activity.is_sure else None


def _read(
    asked: Iterable[tuple[Handle | None, ConnectionInfo | None]],
) -> list[tuple[dict[tuple[int, int], float], int | None]]:
    """Read of kernels what each process has used, and how many clients are connected.

    A shim that was killed has left its kernel to another parent, so both are looked at.
    """
    counter = ClientCounter()
    return [
        (
            tree_cpu_seconds(handle.shim, handle.kernel) if handle else {},
            counter.count(connection, handle.kernel.pid) if handle and connection else None,
        )
        for handle, connection in asked
    ]
