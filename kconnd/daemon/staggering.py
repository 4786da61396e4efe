"""Spaces out actions that would otherwise happen to all kernels at the same time.

A daemon that adopts fifty kernels requests the info of each. If all requests went out together, the
replies would occupy every processor just when the daemon is busiest.
"""

import asyncio

TURN_INTERVAL_S = 0.005


class Pace:
    """Grants turns at a fixed interval.

    Parameters
    ----------
    interval_s : float
        Seconds between two turns.
    """

    def __init__(self, interval_s: float = TURN_INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._next_at = 0.0

    async def turn(self) -> None:
        """Wait for the next turn; a turn ends at once, however long its owner works."""
        now = asyncio.get_running_loop().time()
        turn_at = max(now, self._next_at)
        self._next_at = turn_at + self._interval_s
        await asyncio.sleep(turn_at - now)  # the delay is the purpose
