"""What a kernel says of itself: its first answer, busy and idle, heartbeats.

Rules. Nothing is decided here: what is heard is told to the actor as an event with the
generation it belongs to. Silence is reported, never taken for an end.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any

from kconnd.core.events import Answered, Event, HeartbeatBack, HeartbeatMissed, Silent
from kconnd.daemon.world import Channels

FIRST_PATIENCE = 5.0  # seconds before a kernel that has not answered is asked again
CONFIRM = 10.0  # seconds of silence after which an adopted kernel is called unresponsive
IDLE_PROOF = 5.0  # seconds in which an idle kernel answers on shell

Work = Coroutine[Any, Any, None]


class Watch:
    """Listens to one process of a kernel after the other.

    Parameters
    ----------
    tell : callable
        Takes events.
    answered : callable
        Takes the content of a ``kernel_info_reply``, and whether it was the first one.
    wall_clock : callable
        Seconds since the epoch.
    turn : callable
        Waits until an adopted kernel may be asked something.
    """

    def __init__(
        self,
        *,
        tell: Callable[[Event], None],
        answered: Callable[[Mapping[str, Any], bool], None],
        wall_clock: Callable[[], float],
        turn: Callable[[], Awaitable[None]],
    ) -> None:
        self.execution_state: str | None = None  # busy, idle; unknown where it was adopted
        self.last_activity: float | None = None
        self.heartbeat_at: float | None = None
        self.missed = 0
        self._tell, self._answered, self._wall_clock = tell, answered, wall_clock
        self._turn = turn
        self._channels: Channels | None = None

    def begin(self, *, fresh: bool) -> None:
        """Forget the process before; ``fresh`` where the first answer is still awaited."""
        self.execution_state = None if fresh else "unknown"
        self.missed, self.heartbeat_at, self.last_activity = 0, None, None

    def listen(
        self,
        channels: Channels,
        generation: int,
        *,
        fresh: bool,
        answer: Mapping[str, Any] | None = None,
    ) -> Iterator[Work]:
        """Give what is to be done side by side from now on, until `end`.

        ``answer`` is what the kernel has replied already, if so.
        """
        self._channels = channels
        if fresh and answer is None:
            yield self._first_answer(channels, generation)
            return
        yield channels.watch_status(self._status_seen)
        if answer is not None:
            self._take_first(answer, generation)
        else:
            yield self._see_idle(channels)
            yield self._confirm(channels, generation)

    def end(self) -> None:
        """Let go of the kernel."""
        self.execution_state = None
        if self._channels is not None:
            self._channels.close()
            self._channels = None

    async def request(self, kind: str, content: Mapping[str, Any]) -> None:
        """Send a request on the control channel."""
        if self._channels is not None:
            await self._channels.request(kind, content)

    async def control(self, kind: str, content: Mapping[str, Any]) -> bool:
        """Send a request on the control channel, and wait for its reply; false without one."""
        if self._channels is None:
            return False
        await self._channels.control(kind, content)
        return True

    def beat(self, generation: int, allowed: int) -> None:
        """Take part in a round of heartbeats."""
        if self._channels is None:
            return
        if self._channels.heartbeat():
            if self.missed >= allowed:
                self._tell(HeartbeatBack(generation))
            self.missed, self.heartbeat_at = 0, self._wall_clock()
        else:
            self.missed += 1
            if self.missed == allowed:
                self._tell(HeartbeatMissed(generation))

    async def is_idle(self) -> bool:
        """Ask on shell: only a kernel that runs no cell replies in time.

        What iopub said last is not proof: a cell that holds the GIL keeps ipykernel from
        saying that it is busy.
        """
        if self._channels is None:
            return False
        try:
            async with asyncio.timeout(IDLE_PROOF):
                await self._channels.kernel_info()
        except TimeoutError:
            return False
        return self.execution_state == "idle"

    def _status_seen(self, state: str) -> None:
        self.execution_state = state
        self.last_activity = self._wall_clock()

    async def _first_answer(self, channels: Channels, generation: int) -> None:
        """Wait until it answers, and then for what it says: before, it cannot be connected to."""
        self._take_first(await ask_until_answered(channels, FIRST_PATIENCE), generation)
        await channels.watch_status(self._status_seen)

    def _take_first(self, reply: Mapping[str, Any], generation: int) -> None:
        self.execution_state = self.execution_state or "idle"
        self.last_activity = self.last_activity or self._wall_clock()
        self._answered(reply, True)  # noqa: FBT003  # told in the constructor's docstring
        self._tell(Answered(generation))

    async def _see_idle(self, channels: Channels) -> None:
        """Take a reply on shell as sign that no cell runs; an adopted kernel may be busy."""
        await self._turn()
        self._answered(await channels.kernel_info(), False)  # noqa: FBT003  # as above
        if self.execution_state == "unknown":
            self.execution_state = "idle"
            self.last_activity = self._wall_clock()

    async def _confirm(self, channels: Channels, generation: int) -> None:
        """Ask an adopted kernel who it is; a silent one is ours all the same."""
        await self._turn()
        try:
            async with asyncio.timeout(CONFIRM):
                await channels.kernel_info("control")
        except TimeoutError:
            self._tell(Silent(generation))
            await channels.kernel_info("control")
        self._tell(HeartbeatBack(generation))


async def ask_until_answered(channels: Channels, pause: float) -> Mapping[str, Any]:
    """Wait for a starting kernel's answer; ask again, should it have dropped the question."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                return await channels.kernel_info()
        pause = min(pause * 2, 60.0)
