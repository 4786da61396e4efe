"""Converts monotonic times to wall-clock times for display.

No decision depends on the wall clock, since administrators and NTP set it. Linux's CLOCK_MONOTONIC
cannot be set. It stands still while the machine is suspended.
"""

CLOCK_STEP_S = 0.2  # a larger difference between two readings means that the clock was set


class WallClock:
    """Converts monotonic times by the present offset of the wall clock."""

    def __init__(self) -> None:
        self._offset = 0.0

    def time_of(self, at: float, offset: float) -> float:
        """Convert a monotonic time; the result is stable until the clock is set.

        Parameters
        ----------
        at : float
            Monotonic seconds.
        offset : float
            Seconds between both clocks now. It varies a little, since they are read one after
            the other.
        """
        if abs(offset - self._offset) > CLOCK_STEP_S:
            self._offset = offset
        return at + self._offset
