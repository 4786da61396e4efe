"""What the daemon sees of a kernel, gathered for a reply.

What has to be read from /proc is read in a thread, at the most once in `FRESH` seconds, so
that a crowd that asks about one kernel costs little more than one who does. Who asks about
many has them read together: what tells of all sockets is read once for all.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kconnd.core.kernel.lifecycle import State
from kconnd.core.kernel.view import Sight
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.daemon.context import World
from kconnd.daemon.kernel.actor import Actor
from kconnd.launchers.base import Handle
from kconnd.system.channels.attach_check import Reach
from kconnd.system.process.connected_clients import Census
from kconnd.system.process.processes import ProcessId, tree_memory

FRESH = 1.0  # seconds that what was read from /proc is good for


@dataclass(frozen=True)
class Reading:
    """What /proc says of one process of a kernel: memory in bytes, and how many are connected.

    It is of a kernel that is ready or of one that starts, which tells little of what it takes.
    """

    at: float
    shim: ProcessId
    ready: bool
    memory: int
    clients: int | None


def see(actor: Actor, world: World, profile_status: str, *, quick: bool = False) -> Sight:
    """Gather what is shown of a kernel beside its record; ``quick`` leaves out what was read."""
    reading = None if quick else _reading_of(actor)
    life, kernel = actor.life, actor.kernel
    heard_at = life.watch.heartbeat_at if life.handle else None
    retry = kernel.deadline if kernel.state is State.BACKOFF else None
    return Sight(
        owner=world.user.name,
        profile_status=profile_status,
        connection_file=life.files.connection_file,
        log_file=str(life.log_file),
        execution_state=life.watch.execution_state,
        last_activity=_last_activity(actor, world),
        heartbeat="unresponsive" if kernel.unresponsive else life.watch.heartbeat,
        heartbeat_at=heard_at and world.wall_time(heard_at),
        next_attempt_at=retry and world.wall_time(retry),
        memory=reading.memory if reading else None,
        clients=reading.clients if reading else None,
        unrecorded=actor.unrecorded,
        kept_alive=(life.handle and life.kept_alive) or None,
        unreachable=life.fault if kernel.state is State.RUNNING else "",
    )


def is_fresh(actor: Actor, world: World) -> bool:
    """Tell whether there is nothing to be read of a kernel, or it was read a moment ago."""
    reading = _reading_of(actor)
    if reading is None:
        return actor.life.handle is None
    return world.clock() - reading.at < FRESH


async def read_anew(actors: Iterable[Actor], world: World) -> None:
    """Have fresh readings of kernels; of those who ask at once, one reads."""
    stale = [actor for actor in actors if not is_fresh(actor, world)]
    if unread := [actor for actor in stale if actor.life.reading_now is None]:
        reading = asyncio.get_running_loop().create_task(_read(unread, world))
        for actor in unread:
            actor.life.reading_now = reading
    under_way = {actor.life.reading_now for actor in stale if actor.life.reading_now is not None}
    await asyncio.gather(*map(asyncio.shield, under_way))


async def _read(actors: Sequence[Actor], world: World) -> None:
    try:
        lives = [actor.life for actor in actors]
        asked = [(life.handle, life.connection, life.reach) for life in lives]
        ready = [life.is_ready for life in lives]
        found = await asyncio.to_thread(_look_at, asked)
        for life, (handle, *_), was_ready, seen in zip(lives, asked, ready, found, strict=True):
            if handle is not None:
                memory, clients, fault = seen
                life.reading = Reading(world.clock(), handle.shim, was_ready, memory, clients)
                if life.handle is handle and life.is_ready and life.connection is not None:
                    life.fault = fault
    finally:
        for actor in actors:
            actor.life.reading_now = None


def _look_at(
    asked: Iterable[tuple[Handle | None, ConnectionInfo | None, Reach | None]],
) -> list[tuple[int, int | None, str]]:
    """Read memory and clients of kernels, and why no new one can attach.

    Of one without a process there is nothing to read.
    """
    census = Census()
    return [
        (
            tree_memory(handle.shim) if handle else 0,
            census.clients(connection, handle.kernel.pid) if handle and connection else None,
            reach.find_fault() if reach else "",
        )
        for handle, connection, reach in asked
    ]


def _reading_of(actor: Actor) -> Reading | None:
    """Give the last reading, unless it was of another process, or of one that was starting."""
    life, reading = actor.life, actor.life.reading
    if life.handle is None or reading is None:
        return None
    same = (reading.shim, reading.ready) == (life.handle.shim, life.is_ready)
    return reading if same else None


def _last_activity(actor: Actor, world: World) -> float | None:
    """Give when a kernel worked last; None for one that was adopted and has said nothing yet."""
    activity = actor.life.watch.activity
    if activity is None or actor.life.handle is None or activity.state == "unknown":
        return None
    return world.wall_time(activity.active_at)
