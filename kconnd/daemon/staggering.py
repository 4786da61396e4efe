"""Spaces out actions that concern all kernels, so that they do not happen at the same time.

A daemon that adopts fifty kernels requests the info of each kernel. If all requests were sent
together, the replies would occupy every processor while the daemon is busiest.
"""

import asyncio

TURN_INTERVAL_S = 0.005


class Pace:
    """Grants turns at a fixed interval.

    Parameters
    ----------
    interval_s : float
        The time between two turns, in seconds.
    """

    def __init__(self, interval_s: float = TURN_INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._next_at = 0.0

    async def turn(self) -> None:
        """Wait for the next turn; the following turn does not wait for the caller's work."""
        now = asyncio.get_running_loop().time()
        turn_at = max(now, self._next_at)
        self._next_at = turn_at + self._interval_s
        await asyncio.sleep(turn_at - now)  # a fixed delay is the purpose of this class
