"""Times of day, for people to read, of moments that are kept in monotonic seconds.

Nothing is decided by a time of day, since whoever may set the clock moves it, and so does NTP.
Linux's CLOCK_MONOTONIC cannot be set. It does not go on while the machine is suspended.
"""

CLOCK_STEP_S = 0.2  # between two looks at the clock, from which on it has been set


class WallClock:
    """Turns monotonic times into times of day, by the clock as it is set now."""

    def __init__(self) -> None:
        self._offset = 0.0

    def time_of(self, at: float, offset: float) -> float:
        """Give a time of day; the same moment has the same one, until the clock is set.

        Parameters
        ----------
        at : float
            Monotonic seconds.
        offset : float
            Seconds between both clocks now. They are read one after the other, so it is never
            quite the same.
        """
        if abs(offset - self._offset) > CLOCK_STEP_S:
            self._offset = offset
        return at + self._offset
