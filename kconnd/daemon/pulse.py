"""The daemon's one regular round: heartbeats of all kernels, and kernels that idle too long."""

import asyncio
from collections.abc import Iterable

from kconnd.core.lifecycle import State, StopAsked
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
            profile = actor.profile()
            if due.get(actor.record.name, 0.0) <= now:
                due[actor.record.name] = now + profile.heartbeat.interval
                actor.life.beat(actor.kernel.generation, profile.heartbeat.misses)
                stop_idle(actor, kernels.world.wall_clock())
        await asyncio.sleep(ROUND)


def stop_idle(actor: Actor, now: float) -> None:
    """Stop a kernel that its profile lets go, once nothing and nobody needs it.

    Never one that may be busy, and never where nobody can tell whether a client is connected.
    """
    stop_after = actor.profile().idle.stop_after
    since = actor.life.last_activity
    if actor.life.execution_state != "idle" or since is None or now - since < stop_after:
        return
    if actor.life.clients() == 0:
        why = f"nothing ran for {format_duration(stop_after)} and no client is connected"
        actor.tell(StopAsked(busy=False, why=why))


def _running(actors: Iterable[Actor]) -> Iterable[Actor]:
    return (actor for actor in actors if actor.kernel.state is State.RUNNING)
