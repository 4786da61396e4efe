"""What happened to kernels, for whoever listens: ``kconnd-ctl events`` and the log."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from kconnd.core.kernel.view import iso_time
from kconnd.system.systemd.journal import EVENT

KEPT = 1000
BACKLOG = 1000  # events that a slow listener may be behind before it is let go
SETTLED = 0.05  # seconds in which what happens at once is seen as one

log = logging.getLogger("kconnd")


@dataclass(frozen=True)
class Happening:
    """One thing that happened to one kernel."""

    at: float
    kernel: str
    event: str
    message: str

    def to_json(self) -> dict[str, Any]:
        """Give it as a reply has it."""
        return {**vars(self), "at": iso_time(self.at)}


class EventBus:
    """Keeps the last events and hands new ones on.

    Parameters
    ----------
    owner : str
        Whose kernels these are, for the journal.
    """

    def __init__(self, owner: str = "") -> None:
        self._owner = owner
        self._past: deque[Happening] = deque(maxlen=KEPT)
        self._listeners: set[asyncio.Queue[Happening]] = set()
        self._next = asyncio.Event()
        self.count = 0  # of all events so far

    def tell(self, happening: Happening) -> None:
        """Log an event, keep it and hand it to each listener."""
        fields = {
            "MESSAGE_ID": EVENT,
            "KCONND_KERNEL": happening.kernel,
            "KCONND_OWNER": self._owner,
            "KCONND_EVENT": happening.event,
        }
        told = (happening.kernel, happening.event, happening.message)
        log.info("%s: %s: %s", *told, extra=fields)
        self._past.append(happening)
        self.count += 1
        for queue in self._listeners:
            if not queue.full():
                queue.put_nowait(happening)
        self._next.set()
        self._next = asyncio.Event()

    async def quiet(self, limit: float, since: int) -> None:
        """Wait until something has happened, or for so many seconds.

        What happens at once is seen as one: who looks at all kernels then, looks once.

        Parameters
        ----------
        since : int
            What `count` was when the caller looked; what has happened meanwhile counts.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                if self.count == since:
                    await self._next.wait()
                await asyncio.sleep(SETTLED)  # what belongs together comes one by one

    async def listen(self, *, follow: bool) -> AsyncGenerator[Happening, None]:
        """Give what is kept, oldest first, and then events as they come, for ever.

        One that is too slow misses some.

        Parameters
        ----------
        follow : bool
            Whether it goes on after what is kept.
        """
        queue: asyncio.Queue[Happening] = asyncio.Queue(BACKLOG)
        self._listeners.add(queue)  # from now on, whatever comes while the past is told
        try:
            for happening in tuple(self._past):
                yield happening
            while follow:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)
