"""The latest readings of each kernel from /proc, and the reason why an idle kernel is not stopped.

A thread reads /proc for each kernel at most once in `MAX_AGE_S`. A hundred requests about a kernel
therefore cost little more than one request. A request about many kernels reads the data of all of
them together, so that the table of sockets is parsed once. The readings are for replies; the
supervision of a kernel does not use them. If `kconnd.daemon.tasks.idle_stop` does not stop a kernel
after ``idle.stop_after``, `Readings.note_kept_alive` stores the reason.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from kconnd.core.kernel.interrupts import describe_subshells
from kconnd.core.kernel.lifecycle import State
from kconnd.core.kernel.view import LiveStatus
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.names import jupyter_name
from kconnd.daemon.context import World
from kconnd.daemon.kernel.actor import Actor
from kconnd.launchers.base import Handle
from kconnd.system.channels.attach_check import AttachCheck
from kconnd.system.process.connected_clients import ClientCounter
from kconnd.system.process.processes import ProcessId
from kconnd.system.process.resource_usage import tree_memory

MAX_AGE_S = 1.0  # an older reading is replaced by a new reading

Subject = tuple[Handle | None, ConnectionInfo | None, AttachCheck | None]


@dataclass(frozen=True)
class Reading:
    """The memory and the number of clients of one process of a kernel.

    Parameters
    ----------
    at : float
        The time of the reading, in monotonic seconds.
    shim : ProcessId
        The shim of the process.
    ready : bool
        Whether the kernel had answered before the reading. The memory of a starting kernel is not
        representative.
    memory : int
        The memory in bytes.
    clients : int, optional
        The number of clients; None if they cannot be counted.
    """

    at: float
    shim: ProcessId
    ready: bool
    memory: int
    clients: int | None


class Readings:
    """The latest reading of each kernel.

    Parameters
    ----------
    world : World
        The objects that all kernels share.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._latest: WeakKeyDictionary[Actor, Reading] = WeakKeyDictionary()
        self._pending: WeakKeyDictionary[Actor, asyncio.Task[None]] = WeakKeyDictionary()
        self._kept_alive: WeakKeyDictionary[Actor, tuple[int, str]] = WeakKeyDictionary()

    def latest(self, actor: Actor) -> Reading | None:
        """Return the latest reading of the present process; None if there is none.

        A reading from before the kernel's first answer does not count after the answer.
        """
        process, reading = actor.process, self._latest.get(actor)
        if process.handle is None or reading is None:
            return None
        current = (reading.shim, reading.ready) == (process.handle.shim, process.is_ready)
        return reading if current else None

    def is_fresh(self, actor: Actor) -> bool:
        """Return whether the latest reading is recent; also True for a kernel without a process."""
        reading = self.latest(actor)
        if reading is None:
            return actor.process.handle is None
        return self._world.clock() - reading.at < MAX_AGE_S

    async def refresh(self, actors: Iterable[Actor]) -> None:
        """Replace readings that are too old; concurrent callers share new readings."""
        stale = [actor for actor in actors if not self.is_fresh(actor)]
        if unread := [actor for actor in stale if actor not in self._pending]:
            reading = asyncio.get_running_loop().create_task(self._read(unread))
            for actor in unread:
                self._pending[actor] = reading
        pending = {self._pending[actor] for actor in stale if actor in self._pending}
        # The tasks are shielded: a caller that is cancelled must not cancel them for other callers.
        await asyncio.gather(*map(asyncio.shield, pending))

    async def _read(self, actors: Sequence[Actor]) -> None:
        try:
            processes = [actor.process for actor in actors]
            subjects = [
                (process.handle, process.connection, process.reach) for process in processes
            ]
            ready = [process.is_ready for process in processes]
            figures = await asyncio.to_thread(_read_proc, subjects)
            for actor, (handle, *_), was_ready, figure in zip(
                actors, subjects, ready, figures, strict=True
            ):
                if handle is not None:
                    memory, clients, fault = figure
                    now = self._world.clock()
                    self._latest[actor] = Reading(now, handle.shim, was_ready, memory, clients)
                    actor.process.note_fault(handle, fault)
        finally:
            for actor in actors:
                self._pending.pop(actor, None)

    def note_kept_alive(self, actor: Actor, reason: str) -> None:
        """Store the reason why the present process of a kernel is not stopped as idle.

        ``""`` removes the stored reason.
        """
        if reason:
            self._kept_alive[actor] = (actor.kernel.generation, reason)
        else:
            self._kept_alive.pop(actor, None)

    def _why_kept_alive(self, actor: Actor) -> str | None:
        generation, reason = self._kept_alive.get(actor, (0, None))
        current = actor.process.handle is not None and generation == actor.kernel.generation
        return reason if current else None

    def sight(self, actor: Actor, profile_status: str, *, quick: bool = False) -> LiveStatus:
        """Collect the live status of a kernel for replies; ``quick`` omits memory and clients."""
        reading = None if quick else self.latest(actor)
        world, process, kernel = self._world, actor.process, actor.kernel
        heard_at = process.watch.beats.answered_at if process.handle else None
        retry = kernel.deadline if kernel.state is State.BACKOFF else None
        return LiveStatus(
            owner=world.user.name,
            profile_status=profile_status,
            connection_file=actor.process.files.connection_file,
            log_file=str(process.runtime.log),
            execution_state=process.watch.execution_state,
            last_activity=_last_activity(actor, world),
            heartbeat="unresponsive" if kernel.unresponsive else process.watch.heartbeat,
            heartbeat_at=heard_at and world.wall_time(heard_at),
            next_attempt_at=retry and world.wall_time(retry),
            memory=reading.memory if reading else None,
            clients=reading.clients if reading else None,
            unrecorded=actor.unrecorded,
            kept_alive=self._why_kept_alive(actor),
            unreachable=process.fault if kernel.state is State.RUNNING else "",
            unanswered=process.watch.silence,
            in_subshells=describe_subshells(
                process.watch.open_requests, actor.record.facts.implementation
            ),
            jupyter_name=jupyter_name(actor.record.name, actor.profile.kernel),
        )


def _read_proc(subjects: Iterable[Subject]) -> list[tuple[int, int | None, str]]:
    """Read the memory and clients of kernels, and check whether new clients can attach."""
    counter = ClientCounter()
    return [
        (
            tree_memory(handle.shim) if handle else 0,
            counter.count(connection, handle.kernel.pid) if handle and connection else None,
            reach.find_fault() if reach else "",
        )
        for handle, connection, reach in subjects
    ]


def _last_activity(actor: Actor, world: World) -> float | None:
    """Return the time of a kernel's last activity; None if this is unknown.

    It is unknown after an adoption until the kernel has published a status.
    """
    activity = actor.process.watch.activity
    if activity is None or actor.process.handle is None or activity.state == "unknown":
        return None
    return world.wall_time(activity.active_at)
