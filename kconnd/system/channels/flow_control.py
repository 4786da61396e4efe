"""Bounds how much of the event loop reading from one kernel takes, however fast it publishes.

A turn reads for `TURN_S` of processor time at the most. All kernels that publish too fast share
`SHARE` of a core: who has used its part is left alone until it has one again, and meanwhile its
own socket drops what it cannot send (ZMQ_SNDHWM). A kernel that was quiet has saved up
`SAVED_S`, so that what a usual cell prints is read at once. What is read is not old, since
little of it is buffered on the way: see `kconnd.system.channels.listeners`.

Rule: whoever reads with a `Flow` learns when messages may have been lost.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

TURN_S = 0.002  # of processor time, in which a turn reads some hundred messages
SHARE = 0.08  # of a core
SAVED_S = 0.01  # of processor time
MANY = 500  # messages within a second: libzmq buffers 1000 by default and drops further ones
SPAN_S = 1.0


class Crowd:
    """The kernels of one daemon that publish faster than they are read."""

    def __init__(self) -> None:
        self.members: set[Flow] = set()

    @property
    def share(self) -> float:
        """The part of a core that each of them may use."""
        return SHARE / max(1, len(self.members))


@dataclass(frozen=True)
class Clocks:
    """What time goes by.

    Parameters
    ----------
    now, used : callable
        Give seconds, as they pass for all (monotonic) and as this thread's processor time.
    """

    now: Callable[[], float] = time.monotonic
    used: Callable[[], float] = time.thread_time


class Flow:
    """Calls what reads from one kernel.

    Parameters
    ----------
    crowd : Crowd
        Of the daemon.
    receive : callable
        Reads a little, and gives how many messages that were; None where there is no more.
        It never waits.
    lost : callable
        Is called when messages may have been lost.
    clocks : Clocks
        What it goes by.
    """

    __slots__ = (
        "_at", "_clocks", "_count", "_credit", "_crowd", "_lost", "_receive", "_since", "heard_at"
    )  # fmt: skip

    def __init__(
        self,
        crowd: Crowd,
        receive: Callable[[], int | None],
        lost: Callable[[], None],
        clocks: Clocks = Clocks(),
    ) -> None:
        self._crowd, self._receive, self._lost, self._clocks = crowd, receive, lost, clocks
        self.heard_at = 0.0  # when something was read last, in monotonic seconds
        self._credit, self._at = SAVED_S, 0.0  # seconds that may be used, and as of when
        self._since, self._count = 0.0, 0

    def turn(self) -> float | None:
        """Read for one turn, and give the seconds to wait before the next.

        Returns
        -------
        float or None
            None where all was read, and more may be read as soon as it comes.
        """
        now = self._clocks.now()
        used, count, rest = self._read()
        if count or rest:
            self.heard_at = now
        self._count_up(now, count)
        pause = self._charge(now, used)
        if pause or self._count >= MANY:
            self._lost()
        if not pause and not rest:
            self._crowd.members.discard(self)
            return None
        return pause

    def _read(self) -> tuple[float, int, bool]:
        """Read until nothing is left or the turn is over: give time, messages, if there is more."""
        begun, used, count, rest = self._clocks.used(), 0.0, 0, True
        while rest and used < TURN_S:
            read = self._receive()
            rest, count = read is not None, count + (read or 0)
            used = self._clocks.used() - begun
        return used, count, rest

    def _charge(self, now: float, used: float) -> float:
        """Take what was used from the credit, and give the seconds until there is some again."""
        saved = self._credit + (now - self._at) * self._crowd.share
        self._credit, self._at = min(SAVED_S, saved) - used, now
        if self._credit > 0:
            return 0.0
        self._crowd.members.add(self)
        return (TURN_S - self._credit) / self._crowd.share

    def _count_up(self, now: float, count: int) -> None:
        if now - self._since >= SPAN_S:
            self._since, self._count = now, 0
        self._count += count

    def end(self) -> None:
        """Count it no more among those that publish too fast."""
        self._crowd.members.discard(self)


class Turns:
    """Has a flow take its turns as its descriptor becomes readable, until it is closed.

    Parameters
    ----------
    number : int
        The descriptor.
    flow : Flow
        What reads from it.
    failed : callable
        Takes what reading raised, after which there are no further turns.
    """

    __slots__ = ("_failed", "_flow", "_loop", "_number", "_timer")

    def __init__(self, number: int, flow: Flow, failed: Callable[[Exception], None]) -> None:
        self._number, self._flow, self._failed = number, flow, failed
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(number, self._take)
        self._timer = self._loop.call_later(0, self._take)  # what came before we listened

    def _take(self) -> None:
        try:
            pause = self._flow.turn()
        except Exception as error:  # noqa: BLE001  # whatever it is, who waits for it gets it
            self.close()
            self._failed(error)
            return
        if pause is not None:
            self._loop.remove_reader(self._number)
            self._timer = self._loop.call_later(pause, self._resume)

    def _resume(self) -> None:
        self._loop.add_reader(self._number, self._take)
        self._take()

    def close(self) -> None:
        """Take no further turn; the descriptor stays open."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._number)
        self._flow.end()
