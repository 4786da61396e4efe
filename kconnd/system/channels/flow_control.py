"""Limit the time that the event loop spends on reading from kernels that publish fast.

How it works. A turn reads from one kernel for at most `TURN_S` seconds of processor time. A budget
of `CORE_SHARE` of a core is divided among the kernels that publish too fast for the daemon. If a
kernel has used up its share, the daemon reads nothing from the kernel until the kernel has credit
again. During this pause, the kernel's own socket drops the messages that it cannot send
(ZMQ_SNDHWM). A quiet kernel saves credit up to `MAX_CREDIT_S`, so that the output of a usual cell
is read without a pause. Few messages are buffered between a kernel and the daemon, so messages are
recent when the daemon reads them (see `kconnd.system.channels.listeners`).

Rule: a `ThrottledReader` reports when messages may have been lost.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

TURN_S = 0.002  # processor time of one turn, which reads some hundred messages
CORE_SHARE = 0.08
MAX_CREDIT_S = 0.01  # the processor time that a quiet kernel can save
LOSS_COUNT = 500  # messages per second; libzmq buffers 1000 by default and drops further messages
COUNT_INTERVAL_S = 1.0


class ReadBudget:
    """Divides the budget among the readers of kernels that publish too fast."""

    def __init__(self) -> None:
        self.readers: set[ThrottledReader] = set()

    @property
    def core_share(self) -> float:
        """The share of a core that each reader may use."""
        return CORE_SHARE / max(1, len(self.readers))


@dataclass(frozen=True)
class Clocks:
    """The clocks of a reader.

    Parameters
    ----------
    now, thread_time : callable
        A function that returns monotonic seconds, and a function that returns the processor seconds
        that the calling thread has used.
    """

    now: Callable[[], float] = time.monotonic
    thread_time: Callable[[], float] = time.thread_time


class ThrottledReader:
    """Reads from one kernel within a budget.

    Parameters
    ----------
    budget : ReadBudget
        The budget of the daemon.
    receive : callable
        A function that reads some messages without waiting, and returns the number of messages. It
        returns None if there is no message to read.
    lost : callable
        A function that is called when messages may have been lost.
    clocks : Clocks
        The clocks by which this reader measures its turns.
    """

    __slots__ = (
        "_budget",
        "_clocks",
        "_count",
        "_counted_since",
        "_credit_at",
        "_credit_s",
        "_lost",
        "_receive",
        "heard_at",
    )

    def __init__(
        self,
        budget: ReadBudget,
        receive: Callable[[], int | None],
        lost: Callable[[], None],
        clocks: Clocks = Clocks(),
    ) -> None:
        self._budget, self._receive, self._lost, self._clocks = budget, receive, lost, clocks
        self.heard_at = 0.0  # monotonic time of the last message
        self._credit_s, self._credit_at = MAX_CREDIT_S, 0.0
        self._counted_since, self._count = 0.0, 0

    def turn(self) -> float | None:
        """Read messages during one turn of the event loop.

        Returns
        -------
        float or None
            The seconds until the next turn. None if all messages were read: the next turn begins
            when the next message arrives.
        """
        now = self._clocks.now()
        used_s, count, has_more = self._read()
        if count or has_more:
            self.heard_at = now
        self._add_to_count(now, count)
        pause_s = self._charge(now, used_s)
        if pause_s or self._count >= LOSS_COUNT:
            self._lost()
        if not pause_s and not has_more:
            self._budget.readers.discard(self)
            return None
        return pause_s

    def _read(self) -> tuple[float, int, bool]:
        """Read until the turn is over or no message is left.

        Returns
        -------
        tuple
            The processor time used, the number of messages, and whether there may be more.
        """
        started, used_s, count, has_more = self._clocks.thread_time(), 0.0, 0, True
        while has_more and used_s < TURN_S:
            received = self._receive()
            has_more, count = received is not None, count + (received or 0)
            used_s = self._clocks.thread_time() - started
        return used_s, count, has_more

    def _charge(self, now: float, used_s: float) -> float:
        """Subtract processor time from the credit; return the seconds until the next turn."""
        credit_s = self._credit_s + (now - self._credit_at) * self._budget.core_share
        self._credit_s, self._credit_at = min(MAX_CREDIT_S, credit_s) - used_s, now
        if self._credit_s > 0:
            return 0.0
        self._budget.readers.add(self)
        return (TURN_S - self._credit_s) / self._budget.core_share

    def _add_to_count(self, now: float, count: int) -> None:
        if now - self._counted_since >= COUNT_INTERVAL_S:
            self._counted_since, self._count = now, 0
        self._count += count

    def end(self) -> None:
        """Release this reader's share of the budget."""
        self._budget.readers.discard(self)


class ReadTurns:
    """Runs a turn of a reader whenever a descriptor is readable, until `close` is called.

    Parameters
    ----------
    descriptor : int
        The file descriptor to watch for input.
    reader : ThrottledReader
        The reader of this descriptor.
    failed : callable
        A function that is called with an exception that the reader raises. No further turn runs
        after an exception.
    """

    __slots__ = ("_descriptor", "_failed", "_loop", "_reader", "_timer")

    def __init__(
        self, descriptor: int, reader: ThrottledReader, failed: Callable[[Exception], None]
    ) -> None:
        self._descriptor, self._reader, self._failed = descriptor, reader, failed
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(descriptor, self._run_turn)
        # Reads messages that arrived before the descriptor was watched.
        self._timer = self._loop.call_later(0, self._run_turn)

    def _run_turn(self) -> None:
        try:
            pause_s = self._reader.turn()
        except Exception as error:  # noqa: BLE001  # the task that awaits the end receives it
            self.close()
            self._failed(error)
            return
        if pause_s is not None:
            self._loop.remove_reader(self._descriptor)
            self._timer = self._loop.call_later(pause_s, self._resume)

    def _resume(self) -> None:
        self._loop.add_reader(self._descriptor, self._run_turn)
        self._run_turn()

    def close(self) -> None:
        """End the turns; the descriptor stays open."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._descriptor)
        self._reader.end()
