"""Converts monotonic times to wall-clock times for display.

No decision depends on the wall clock, because administrators and NTP can set it. Decisions use
Linux's CLOCK_MONOTONIC, which cannot be set and which stops while the machine is suspended.
"""

CLOCK_STEP_S = 0.2  # if the offset changes by more than this, the wall clock was set


class WallClock:
    """Converts monotonic times to wall-clock times."""

    def __init__(self) -> None:
        self._offset = 0.0

    def time_of(self, at: float, offset: float) -> float:
        """Convert a monotonic time; equal times give equal results until the wall clock is set.

        Parameters
        ----------
        at : float
            Monotonic seconds.
        offset : float
            The present difference between the wall clock and the monotonic clock, in seconds. The
            difference varies slightly between calls, because the clocks are read one after the
            other.
        """
        if abs(offset - self._offset) > CLOCK_STEP_S:
            self._offset = offset
        return at + self._offset
