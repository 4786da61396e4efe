"""Spaces out actions on many kernels, so that these actions do not happen at the same time.

A daemon that adopts fifty kernels requests the info of each kernel. If all requests were sent
together, the kernels would occupy every processor with their replies, while the daemon also needs a
processor for the adoption.
"""

import asyncio

TURN_INTERVAL_S = 0.005


class Pace:
    """Grants turns at a fixed interval.

    Parameters
    ----------
    interval_s : float
        The time between two turns, in seconds.
    delay_s : float
        The shortest wait for a turn, in seconds.
    """

    def __init__(self, interval_s: float = TURN_INTERVAL_S, delay_s: float = 0.0) -> None:
        self._interval_s, self._delay_s = interval_s, delay_s
        self._next_at = 0.0

    async def turn(self) -> None:
        """Wait for the next turn; the interval does not depend on how long earlier callers work."""
        now = asyncio.get_running_loop().time()
        turn_at = max(now + self._delay_s, self._next_at)
        self._next_at = turn_at + self._interval_s
        await asyncio.sleep(turn_at - now)  # this class exists to delay its callers
