"""The events of all kernels: logged, kept for a while, and sent to subscribers.

Subscribers are the clients of ``kconnd-ctl events`` and the daemon's own periodic tasks, which wait
for the next event instead of polling.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from kconnd.core.kernel.view import iso_time
from kconnd.system.systemd.journal import EVENT

MAX_KEPT_EVENTS = 1000
MAX_BACKLOG_EVENTS = 1000  # by which a slow subscriber may be behind; it misses further ones
SETTLE_TIME_S = 0.05  # in which events that belong together arrive

log = logging.getLogger("kconnd")


@dataclass(frozen=True)
class KernelEvent:
    """One event of one kernel, in seconds since the epoch."""

    at: float
    kernel: str
    event: str
    message: str

    def to_json(self) -> dict[str, Any]:
        """Return the event as a line of a reply."""
        return {**vars(self), "at": iso_time(self.at)}


class EventBus:
    """Keeps the last events and sends new ones to subscribers.

    Parameters
    ----------
    owner : str
        The kernels' owner, for the journal.
    """

    def __init__(self, owner: str = "") -> None:
        self._owner = owner
        self._kept: deque[KernelEvent] = deque(maxlen=MAX_KEPT_EVENTS)
        self._subscribers: set[asyncio.Queue[KernelEvent]] = set()
        self._next = asyncio.Event()
        self.count = 0  # of all events so far

    def publish(self, event: KernelEvent) -> None:
        """Log an event, keep it and send it to all subscribers."""
        fields = {
            "MESSAGE_ID": EVENT,
            "KCONND_KERNEL": event.kernel,
            "KCONND_OWNER": self._owner,
            "KCONND_EVENT": event.event,
        }
        log.info("%s: %s: %s", event.kernel, event.event, event.message, extra=fields)
        self._kept.append(event)
        self.count += 1
        for queue in self._subscribers:
            if not queue.full():
                queue.put_nowait(event)
        self._next.set()
        self._next = asyncio.Event()

    async def wait_for_change(self, timeout_s: float, since: int) -> None:
        """Wait for the next event, and for those that belong to it, or until the time is over.

        A caller that then looks at all kernels does so once for several events.

        Parameters
        ----------
        since : int
            The `count` that the caller has seen. If there have been events since, the next one is
            not waited for.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                if self.count == since:
                    await self._next.wait()
                await asyncio.sleep(SETTLE_TIME_S)  # events that belong together come one by one

    async def subscribe(self, *, follow: bool) -> AsyncGenerator[KernelEvent, None]:
        """Yield the kept events, the oldest first, and with ``follow`` each new one.

        A subscriber that is too slow misses events.
        """
        queue: asyncio.Queue[KernelEvent] = asyncio.Queue(MAX_BACKLOG_EVENTS)
        # Subscribe before the first yield, so that no event between kept and new ones is missed.
        self._subscribers.add(queue)
        try:
            for event in tuple(self._kept):
                yield event
            while follow:
                yield await queue.get()
        finally:
            self._subscribers.discard(queue)
