"""The event bus: logs the events of all kernels, sends them to subscribers and keeps the last ones.

Subscribers are the clients that read ``/v1/events``, such as ``kconnd-ctl events``. The daemon's
own periodic tasks do not subscribe: with `EventBus.wait_for_change`, they wait for the next event
instead of polling.
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
MAX_BACKLOG_EVENTS = 1000  # queued for a subscriber; a slow subscriber misses further events
SETTLE_TIME_S = 0.05  # related events arrive within this time

log = logging.getLogger("kconnd")


@dataclass(frozen=True)
class KernelEvent:
    """An event of a kernel; ``at`` is in seconds since the epoch."""

    at: float
    kernel: str
    event: str
    message: str

    def to_json(self) -> dict[str, Any]:
        """Return the event in the format of a reply."""
        return {**vars(self), "at": iso_time(self.at)}


class EventBus:
    """Keeps the last events and sends new events to subscribers.

    Parameters
    ----------
    owner : str
        The owner of the kernels, for the journal.
    """

    def __init__(self, owner: str = "") -> None:
        self._owner = owner
        self._kept: deque[KernelEvent] = deque(maxlen=MAX_KEPT_EVENTS)
        self._subscribers: set[asyncio.Queue[KernelEvent]] = set()
        self._next = asyncio.Event()
        self.count = 0  # the number of all events so far

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
        """Wait for the next event, then briefly for further events; at most ``timeout_s`` seconds.

        Related events, such as those of a restart of many kernels, arrive shortly after each other.
        A caller that checks all kernels after each call therefore checks them once for several
        events.

        Parameters
        ----------
        since : int
            The value of `count` at the caller's last check. If `count` has changed since that
            check, the next event has already occurred, and only the brief wait follows.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                if self.count == since:
                    await self._next.wait()
                await asyncio.sleep(SETTLE_TIME_S)  # related events arrive one after the other

    async def subscribe(self, *, follow: bool) -> AsyncGenerator[KernelEvent, None]:
        """Yield the kept events, oldest first, and with ``follow`` each new event.

        A subscriber misses events while its queue is full.
        """
        queue: asyncio.Queue[KernelEvent] = asyncio.Queue(MAX_BACKLOG_EVENTS)
        # The subscription begins before the first yield, so that no event is missed.
        self._subscribers.add(queue)
        try:
            for event in tuple(self._kept):
                yield event
            while follow:
                yield await queue.get()
        finally:
            self._subscribers.discard(queue)
