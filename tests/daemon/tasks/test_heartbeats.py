"""When each kernel's turn comes."""

import math

from hypothesis import given
from hypothesis import strategies as st

from kconnd.daemon.tasks.heartbeats import MAX_INTERVAL_S, next_turn

INTERVALS = st.floats(0.1, 3600) | st.just(math.inf)


@given(st.floats(0, 1e7), INTERVALS)
def test_a_turn_comes_within_an_interval_and_within_a_round(now: float, interval: float) -> None:
    pause = next_turn(now, interval) - now
    assert -1e-6 <= pause <= min(interval, MAX_INTERVAL_S) + 1e-6


@given(st.floats(0, 1e6), st.floats(0, 0.99))
def test_those_of_one_interval_have_their_turns_together(now: float, later: float) -> None:
    start = math.floor(now) * 1.0
    assert next_turn(start, 1.0) == next_turn(start + later, 1.0)


def test_a_kernel_that_is_never_asked_for_a_heartbeat_may_idle_all_the_same() -> None:
    assert next_turn(100.0, math.inf) == 120.0
