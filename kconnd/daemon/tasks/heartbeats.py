"""Sends heartbeats to all running kernels, and starts the checks for idle kernels."""

import logging
import math
from collections.abc import Iterable

from kconnd.core.kernel.lifecycle import State
from kconnd.core.profile.model import Profile
from kconnd.daemon.kernel.actor import Actor
from kconnd.daemon.kernels import Kernels
from kconnd.daemon.tasks.idle_stop import Idling

log = logging.getLogger("kconnd")

MAX_INTERVAL_S = 60.0  # the longest time between two checks of one kernel
MIN_PAUSE_S = 0.1  # the shortest heartbeat interval that a profile can have


async def beat_for_ever(kernels: Kernels) -> None:
    """Check each kernel at the heartbeat interval of its profile.

    Kernels with equal intervals are checked together. A daemon with many idle kernels therefore
    wakes up rarely.
    """
    due: dict[str, float] = {}
    idling = Idling(kernels.readings, kernels.world.clock)
    while True:
        now, seen_events = kernels.world.clock(), kernels.world.bus.count
        checked = []
        for actor in _running(kernels.all()):
            if due.get(actor.record.name, 0.0) <= now:
                profile = actor.profile
                due[actor.record.name] = next_turn(now, profile.heartbeat.interval)
                _send_heartbeat(actor, profile)
                checked.append(actor)
        idling.check(checked)
        due = {actor.record.name: due[actor.record.name] for actor in _running(kernels.all())}
        pause = min(due.values(), default=math.inf) - kernels.world.clock()
        await kernels.world.bus.wait_for_change(
            min(MAX_INTERVAL_S, max(MIN_PAUSE_S, pause)), seen_events
        )


def next_turn(now: float, interval: float) -> float:
    """Return the time of a kernel's next check: a multiple of the kernel's heartbeat interval.

    Kernels with equal intervals are therefore due at the same times. A kernel without heartbeats
    has an infinite interval and is checked every `MAX_INTERVAL_S`, because it may be idle.
    """
    span = min(interval, MAX_INTERVAL_S)
    return (math.floor(now / span) + 1) * span


def _send_heartbeat(actor: Actor, profile: Profile) -> None:
    """Send a heartbeat to a kernel; log an exception, so that it does not affect other kernels."""
    try:
        if math.isfinite(profile.heartbeat.interval):
            actor.process.watch.beat(profile.heartbeat.misses)
    except Exception:
        log.exception("%s: sending its heartbeat", actor.record.name)


def _running(actors: Iterable[Actor]) -> Iterable[Actor]:
    return (actor for actor in actors if actor.kernel.state is State.RUNNING)
