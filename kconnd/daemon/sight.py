"""What the daemon sees of a kernel at this moment, gathered for a reply."""

from kconnd.core.lifecycle import State
from kconnd.core.plan import connection_path
from kconnd.core.view import Sight
from kconnd.daemon.actor import Actor
from kconnd.daemon.world import World
from kconnd.system.processes import tree_memory


def look(actor: Actor, world: World, profile_status: str) -> Sight:
    """Gather what is shown of a kernel beside its record; reads /proc, so not in the loop."""
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
        memory=tree_memory(handle.shim) if handle else None,
        clients=life.clients(),
    )


def _heartbeat(actor: Actor) -> str:
    if actor.kernel.unresponsive:
        return "unresponsive"
    if actor.life.watch.heartbeat_at is None:
        return "unknown"
    return "missed" if actor.life.watch.missed else "alive"
