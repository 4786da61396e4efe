"""Turns for what would otherwise be done at once with all kernels.

A daemon that takes up fifty kernels asks each of them who it is. All at once, they would keep
every processor busy with their answers just when the daemon has most to do itself.
"""

import asyncio

PAUSE = 0.005  # seconds between two turns


class Pace:
    """Gives turns, so many seconds one after the other.

    Parameters
    ----------
    pause : float
        The seconds.
    """

    def __init__(self, pause: float = PAUSE) -> None:
        self._pause = pause
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for one's turn; nobody waits for what another does with theirs."""
        now = asyncio.get_running_loop().time()
        at = max(now, self._next)
        self._next = at + self._pause
        await asyncio.sleep(at - now)  # to be apart in time is what this is for
