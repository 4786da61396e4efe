"""What the daemon sees of a kernel, gathered for a reply.

What has to be read from /proc is read in a thread, at the most once in `FRESH` seconds, so
that a crowd that asks about one kernel costs little more than one who does.
"""

import asyncio
from dataclasses import dataclass

from kconnd.core.lifecycle import State
from kconnd.core.plan import connection_path
from kconnd.core.view import Sight
from kconnd.daemon.actor import Actor
from kconnd.daemon.world import World
from kconnd.system.processes import ProcessId, tree_memory

FRESH = 1.0  # seconds that what was read from /proc is good for


@dataclass(frozen=True)
class Reading:
    """What /proc says of one process of a kernel: memory in bytes, and how many are connected."""

    at: float
    shim: ProcessId
    memory: int
    clients: int | None


async def look(actor: Actor, world: World, profile_status: str, *, quick: bool = False) -> Sight:
    """Gather what is shown of a kernel beside its record; ``quick`` leaves out what is slow."""
    reading = None if quick else await _read(actor, world)
    life, kernel = actor.life, actor.kernel
    handle = life.handle
    retry = kernel.deadline if kernel.state is State.BACKOFF else None
    return Sight(
        owner=world.user.name,
        profile_status=profile_status,
        connection_file=connection_path(str(world.runtime_dir), actor.record.name),
        log_file=str(life.log_file),
        execution_state=life.watch.execution_state,
        last_activity=life.watch.last_activity if handle else None,
        heartbeat=_heartbeat(actor),
        heartbeat_at=life.watch.heartbeat_at,
        next_attempt_at=retry and world.wall_clock() + retry - world.clock(),
        memory=reading.memory if reading and handle else None,
        clients=reading.clients if reading and handle else None,
    )


async def _read(actor: Actor, world: World) -> Reading | None:
    handle, known = actor.life.handle, actor.life.reading
    if handle is None:
        return None
    if known and known.shim == handle.shim and world.clock() - known.at < FRESH:
        return known

    def read() -> Reading:
        memory = tree_memory(handle.shim)
        return Reading(world.clock(), handle.shim, memory, actor.life.clients())

    if actor.life.reading_now is None:  # of those who ask at once, one reads
        actor.life.reading_now = asyncio.ensure_future(asyncio.to_thread(read))
    try:
        actor.life.reading = await asyncio.shield(actor.life.reading_now)
    finally:
        actor.life.reading_now = None
    return actor.life.reading


def _heartbeat(actor: Actor) -> str:
    if actor.kernel.unresponsive:
        return "unresponsive"
    if actor.life.watch.heartbeat_at is None:
        return "unknown"
    return "missed" if actor.life.watch.missed else "alive"
