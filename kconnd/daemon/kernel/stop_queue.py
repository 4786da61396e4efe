"""A queue for stops: if many stops are requested, only a few kernels exit at a time.

An exiting interpreter occupies a processor while it frees its memory. Three hundred concurrent
exits delay the daemon's replies by a second. The queue does not lengthen the total time: the last
kernel exits no later than it would without the queue. A stop waits for its turn before the actor
decides about the stop, so that the deadlines of the stop do not run during the wait. A turn ends
with the exit of the kernel or after `TURN_S`. A kernel that exits later than that usually waits for
something and needs no processor.
"""

import asyncio
import contextlib
import os

from kconnd.core.kernel.lifecycle import LIVE
from kconnd.daemon.kernel.actor import Actor

TURN_S = 0.3
AT_ONCE_PER_PROCESSOR = 2


class StopTurns:
    """The turns of stops; a limited number of stops have their turn at the same time.

    Parameters
    ----------
    at_once : int
        The number of kernels that may exit at the same time.
    turn_s : float
        The longest duration of a turn, in seconds.
    """

    def __init__(
        self,
        at_once: int = AT_ONCE_PER_PROCESSOR * (os.cpu_count() or 1),
        turn_s: float = TURN_S,
    ) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._turn_s = turn_s
        self._turns: set[asyncio.Task[None]] = set()

    async def take(self, actor: Actor) -> None:
        """Wait for a kernel's turn to stop."""
        await self._free.acquire()
        turn = asyncio.get_running_loop().create_task(self._hold(actor))
        self._turns.add(turn)
        turn.add_done_callback(self._release)

    async def _hold(self, actor: Actor) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._turn_s):
                await actor.until(lambda record: record.lifecycle.state not in LIVE)

    def _release(self, turn: asyncio.Task[None]) -> None:
        self._turns.discard(turn)
        self._free.release()
