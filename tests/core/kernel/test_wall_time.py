"""Times of day of monotonic moments."""

import pytest

from kconnd.core.kernel.wall_time import WallClock


def test_a_moment_has_one_time_of_day_until_the_clock_is_set() -> None:
    calendar = WallClock()
    assert calendar.time_of(100.0, 5000.0) == 5100.0
    assert calendar.time_of(100.0, 5000.0001) == 5100.0
    assert calendar.time_of(100.0, 4999.9) == 5100.0
    assert calendar.time_of(100.0, 8600.0) == 8700.0


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_how_long_ago_something_was_does_not_change_when_the_clock_is_set(step: float) -> None:
    calendar = WallClock()
    before = 5000.0 + 130 - calendar.time_of(100.0, 5000.0)
    after = 5000.0 + step + 130 - calendar.time_of(100.0, 5000.0 + step)
    assert before == after == 30
