"""The events that a kernel can meet, and the names of the steps of a stop."""

from typing import get_args

from kconnd.core.kernel.events import Event, Step
from kconnd.core.kernel.transitions import TABLE


def test_the_table_has_a_row_for_each_event_and_no_other() -> None:
    assert {event for _, event in TABLE} == set(get_args(Event))


def test_the_steps_of_a_stop_are_saved_and_shown_under_these_names() -> None:
    assert [*map(str, Step)] == ["interrupt", "shutdown_request", "SIGTERM", "SIGKILL"]
