"""The daemon's one regular round: heartbeats of all kernels, and kernels that idle too long."""

import asyncio
from collections.abc import Iterable

from kconnd.core.events import StopAsked
from kconnd.core.lifecycle import State
from kconnd.core.units import format_duration
from kconnd.daemon.actor import Actor
from kconnd.daemon.kernels import Kernels

ROUND = 1.0  # seconds


async def beat_for_ever(kernels: Kernels) -> None:
    """Go round once a second; each kernel takes part as often as its profile says."""
    due: dict[str, float] = {}
    while True:
        now = kernels.world.clock()
        for actor in _running(kernels.all()):
            if due.get(actor.record.name, 0.0) <= now:
                due[actor.record.name] = now + actor.profile().heartbeat.interval
                actor.life.spawn(_take_part(actor, kernels.world.wall_clock()))
        await asyncio.sleep(ROUND)


async def _take_part(actor: Actor, now: float) -> None:
    """Let one kernel take part; a fault of it is logged and keeps no other from its turn."""
    actor.life.watch.beat(actor.kernel.generation, actor.profile().heartbeat.misses)
    if has_idled(actor, now):
        await _stop_idle(actor)


def has_idled(actor: Actor, now: float) -> bool:
    """Tell whether a kernel's profile lets it go, and nothing and nobody seems to need it.

    Never one that may be busy, and never where nobody can tell whether a client is connected.
    """
    since = actor.life.watch.last_activity
    if actor.life.watch.execution_state != "idle" or since is None:
        return False
    return now - since >= actor.profile().idle.stop_after and actor.life.clients() == 0


async def _stop_idle(actor: Actor) -> None:
    """Stop an idle kernel, once it has proved that it is one and still nobody came."""
    generation = actor.kernel.generation
    if await actor.life.watch.is_idle() and actor.life.clients() == 0:
        span = format_duration(actor.profile().idle.stop_after)
        why = f"nothing ran for {span} and no client is connected"
        if actor.kernel.generation == generation:
            actor.tell(StopAsked(busy=False, why=why))


def _running(actors: Iterable[Actor]) -> Iterable[Actor]:
    return (actor for actor in actors if actor.kernel.state is State.RUNNING)
