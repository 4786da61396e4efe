"""What is learned of a kernel's heartbeats."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.kernel.habits import Habits, observe_heartbeat
from kconnd.core.launch.capabilities import BEATS_BUSY, BEATS_IDLE

HEARD = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=10)


@given(HEARD)
def test_one_that_was_ever_silent_while_it_worked_need_not_answer_then(
    heard: list[tuple[bool, bool]],
) -> None:
    habits = Habits()
    for busy, missed_busy in heard:
        habits = habits.with_heartbeat(busy=busy, missed_busy=missed_busy)
    assert habits.beats == bool(heard)
    assert habits.silent_busy == any(missed for _, missed in heard)
    if habits.must_beat_busy:
        assert not any(missed for _, missed in heard)
        assert any(busy for busy, _ in heard)


def test_what_was_learned_of_other_software_is_forgotten() -> None:
    habits = Habits().for_software("ipython 9").with_heartbeat(busy=True, missed_busy=False)
    assert habits.for_software("ipython 9") == habits
    assert habits.for_software("IRkernel 1.3") == Habits(of="IRkernel 1.3")


@pytest.mark.parametrize(
    ("busy", "missed_busy", "fact"),
    [
        (False, False, (BEATS_IDLE, True)),
        (True, False, (BEATS_BUSY, True)),
        (True, True, (BEATS_BUSY, False)),
        (False, True, (BEATS_BUSY, False)),
    ],
)
def test_what_a_heartbeat_shows(*, busy: bool, missed_busy: bool, fact: tuple[str, bool]) -> None:
    observed = observe_heartbeat(busy=busy, missed_busy=missed_busy)
    assert [(name, value) for name, (value, _) in observed.items()] == [fact]
