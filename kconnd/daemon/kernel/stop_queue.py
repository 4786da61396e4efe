"""A queue for stops: if many are requested at once, only a few kernels end at a time.

An interpreter that exits keeps a processor busy while it frees its memory. Three hundred of them at
once slow the daemon down by a second, although it needs little itself; with the queue, the last of
them ends no later. A stop waits for its turn before it is decided, so none of its deadlines runs
meanwhile. A turn ends with the kernel, and after `TURN_S` at the latest: a kernel that takes longer
mostly waits for something, and needs no processor.
"""

import asyncio
import contextlib
import os

from kconnd.core.kernel.lifecycle import LIVE
from kconnd.daemon.kernel.actor import Actor

TURN_S = 0.3
AT_ONCE_PER_PROCESSOR = 2


class StopTurns:
    """The stops that are under way, of which a few may run at a time.

    Parameters
    ----------
    at_once : int
        The number of kernels that may end at a time.
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
        """Wait until it is a kernel's turn to end."""
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
