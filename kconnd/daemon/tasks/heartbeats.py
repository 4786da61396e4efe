"""The daemon's one regular round: heartbeats of all kernels, and kernels that idle too long."""

import logging
import math
from collections.abc import Iterable

from kconnd.core.kernel.lifecycle import State
from kconnd.core.profile.model import Profile
from kconnd.daemon.kernel.actor import Actor
from kconnd.daemon.kernels import Kernels
from kconnd.daemon.tasks.idle_stop import Idling

log = logging.getLogger("kconnd")

ROUND = 60.0  # seconds at the most between two looks
LEAST = 0.1  # and at the least, the shortest interval that a profile can have


async def beat_for_ever(kernels: Kernels) -> None:
    """Go round as often as profiles say; those with the same interval take part together.

    So a daemon whose kernels idle wakes rarely, however many they are.
    """
    due: dict[str, float] = {}
    idling = Idling(kernels.world)
    while True:
        now, seen = kernels.world.clock(), kernels.world.bus.count
        present = []
        for actor in _running(kernels.all()):
            if due.get(actor.record.name, 0.0) <= now:
                profile = actor.profile
                due[actor.record.name] = next_turn(now, profile.heartbeat.interval)
                _take_part(actor, profile)
                present.append(actor)
        idling.look(present)
        due = {actor.record.name: due[actor.record.name] for actor in _running(kernels.all())}
        pause = min(due.values(), default=math.inf) - kernels.world.clock()
        await kernels.world.bus.quiet(min(ROUND, max(LEAST, pause)), seen)


def next_turn(now: float, interval: float) -> float:
    """Give when a kernel is next due: at a multiple of its interval, as others of the same are.

    One that is never asked for a heartbeat is looked at all the same, since it may idle.
    """
    span = min(interval, ROUND)
    return (math.floor(now / span) + 1) * span


def _take_part(actor: Actor, profile: Profile) -> None:
    """Let one kernel take part; a fault of it is logged and keeps no other from its turn."""
    try:
        if math.isfinite(profile.heartbeat.interval):
            actor.process.watch.beat(profile.heartbeat.misses)
    except Exception:
        log.exception("%s: its heartbeat", actor.record.name)


def _running(actors: Iterable[Actor]) -> Iterable[Actor]:
    return (actor for actor in actors if actor.kernel.state is State.RUNNING)
