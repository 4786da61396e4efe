"""The daemon's one regular round: heartbeats of all kernels, and kernels that idle too long."""

import logging
import math
from collections.abc import Iterable

from kconnd.core.events import StopAsked
from kconnd.core.lifecycle import State
from kconnd.core.profile import Profile
from kconnd.core.units import format_duration
from kconnd.daemon.actor import Actor
from kconnd.daemon.kernels import Kernels

log = logging.getLogger("kconnd")

ROUND = 60.0  # seconds at the most between two looks
LEAST = 0.1  # and at the least, the shortest interval that a profile can have


async def beat_for_ever(kernels: Kernels) -> None:
    """Go round as often as profiles say; those with the same interval take part together.

    So a daemon whose kernels idle wakes rarely, however many they are.
    """
    due: dict[str, float] = {}
    while True:
        now, seen = kernels.world.clock(), kernels.world.bus.count
        for actor in _running(kernels.all()):
            if due.get(actor.record.name, 0.0) <= now:
                profile = actor.profile()
                due[actor.record.name] = next_turn(now, profile.heartbeat.interval)
                _take_part(actor, profile, kernels.world.wall_clock())
        due = {actor.record.name: due[actor.record.name] for actor in _running(kernels.all())}
        pause = min(due.values(), default=math.inf) - kernels.world.clock()
        await kernels.world.bus.quiet(min(ROUND, max(LEAST, pause)), seen)


def next_turn(now: float, interval: float) -> float:
    """Give when a kernel is next due: at a multiple of its interval, as others of the same are.

    One that is never asked for a heartbeat is looked at all the same, since it may idle.
    """
    span = min(interval, ROUND)
    return (math.floor(now / span) + 1) * span


def _take_part(actor: Actor, profile: Profile, now: float) -> None:
    """Let one kernel take part; a fault of it is logged and keeps no other from its turn."""
    try:
        if math.isfinite(profile.heartbeat.interval):
            actor.life.watch.beat(actor.kernel.generation, profile.heartbeat.misses)
        if has_idled(actor, profile.idle.stop_after, now):
            actor.life.spawn(_stop_idle(actor, profile.idle.stop_after))
    except Exception:
        log.exception("%s: its heartbeat", actor.record.name)


def has_idled(actor: Actor, stop_after: float, now: float) -> bool:
    """Tell whether nothing and nobody seems to have needed a kernel for so many seconds.

    Never one that may be busy, and never where nobody can tell whether a client is connected.
    """
    since = actor.life.watch.last_activity
    if actor.life.watch.execution_state != "idle" or since is None:
        return False
    return now - since >= stop_after and actor.life.clients() == 0


async def _stop_idle(actor: Actor, stop_after: float) -> None:
    """Stop an idle kernel, once it has proved that it is one and still nobody came."""
    generation = actor.kernel.generation
    if await actor.life.watch.is_idle() and actor.life.clients() == 0:
        span = format_duration(stop_after)
        why = f"nothing ran for {span} and no client is connected"
        if actor.kernel.generation == generation:
            actor.tell(StopAsked(busy=False, why=why))


def _running(actors: Iterable[Actor]) -> Iterable[Actor]:
    return (actor for actor in actors if actor.kernel.state is State.RUNNING)
