"""Turns for stops: of many that are asked for at once, a few kernels end at a time.

An interpreter that ends is busy for as long as it frees what it holds. Three hundred of them at
once keep every processor so busy that the daemon, which needs little, waits a second for its share.
In turns all of them are gone as soon. Rules. A stop waits for its turn before anything is decided,
so no deadline of it runs. A turn is over when the kernel has ended, and at the latest after
`TURN_S`: a kernel that takes long mostly waits for something, and holds up no other.
"""

import asyncio
import contextlib
import os

from kconnd.core.kernel.lifecycle import LIVE
from kconnd.daemon.kernel.actor import Actor

TURN_S = 0.3
AT_ONCE_PER_PROCESSOR = 2


class StopTurns:
    """Gives turns.

    Parameters
    ----------
    at_once : int
        How many kernels may have theirs at a time.
    turn_s : float
        Seconds that one takes at the most.
    """

    def __init__(
        self,
        at_once: int = AT_ONCE_PER_PROCESSOR * (os.cpu_count() or 1),
        turn_s: float = TURN_S,
    ) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._turn_s = turn_s
        self._taken: set[asyncio.Task[None]] = set()

    async def take(self, actor: Actor) -> None:
        """Wait for a kernel's turn to end, which begins now."""
        await self._free.acquire()
        turn = asyncio.get_running_loop().create_task(self._hold(actor))
        self._taken.add(turn)
        turn.add_done_callback(self._give_back)

    async def _hold(self, actor: Actor) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._turn_s):
                await actor.until(lambda record: record.lifecycle.state not in LIVE)

    def _give_back(self, turn: asyncio.Task[None]) -> None:
        self._taken.discard(turn)
        self._free.release()
