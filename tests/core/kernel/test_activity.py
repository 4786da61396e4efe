"""Which requests a kernel works on: what it published, what may be lost, what answers prove."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.kernel.activity import (
    LATE_IDLE_S,
    MAX_OPEN_REQUESTS,
    PROBE_INTERVAL_S,
    QUIET_PERIOD_S,
    Activity,
    OpenRequests,
)

STATUSES = st.lists(st.tuples(st.sampled_from("abcde"), st.booleans()), max_size=40)


def told(statuses: Sequence[tuple[str, bool]]) -> Activity:
    activity = Activity(0.0, history_complete=True)
    for number, (request, busy) in enumerate(statuses):
        activity.record_status(request, busy=busy, now=float(number))
    return activity


@given(STATUSES)
def test_a_kernel_is_busy_while_some_request_has_said_busy_and_not_idle(
    statuses: list[tuple[str, bool]],
) -> None:
    last = dict(statuses)
    assert told(statuses).state == ("busy" if any(last.values()) else "idle")


@given(STATUSES, st.integers(0, 40))
def test_whatever_was_lost_the_answer_of_each_shell_makes_it_right(
    statuses: list[tuple[str, bool]], end: int
) -> None:
    """Of what a kernel said only a part is heard; then it is silent, and each shell answers."""
    activity = told(statuses[:end])
    activity.record_loss(50.0)
    assert not activity.is_sure
    due = activity.next_probe_at(heard_at=50.0)
    assert due is not None
    assert due <= 50.0 + PROBE_INTERVAL_S
    activity.record_answer(activity.begin_probe(60.0), 61.0)
    assert activity.state == "idle"
    assert activity.is_sure
    assert activity.next_probe_at(heard_at=61.0) is None


def test_a_new_kernel_is_idle_and_not_asked() -> None:
    activity = Activity(0.0, history_complete=True)
    assert (activity.state, activity.is_sure) == ("idle", True)
    assert activity.next_probe_at(heard_at=0.0) is None


def test_an_adopted_kernel_is_unknown_and_asked_at_once() -> None:
    activity = Activity(5.0, history_complete=False)
    assert (activity.state, activity.is_sure) == ("unknown", False)
    due = activity.next_probe_at(heard_at=0.0)
    assert due is not None
    assert due <= 5.0
    activity.record_answer(activity.begin_probe(5.0), 6.0)
    assert (activity.state, activity.is_sure, activity.active_at) == ("idle", True, 6.0)


def test_a_cell_is_asked_about_once_the_kernel_is_silent_and_now_and_then_if_it_is_not() -> None:
    activity = Activity(0.0, history_complete=True)
    activity.record_status("cell", busy=True, now=10.0)
    assert activity.next_probe_at(heard_at=10.0) == 10.0 + QUIET_PERIOD_S
    assert activity.next_probe_at(heard_at=11.0) == 11.0 + QUIET_PERIOD_S
    assert activity.next_probe_at(heard_at=1000.0) == PROBE_INTERVAL_S
    activity.begin_probe(PROBE_INTERVAL_S)
    assert activity.next_probe_at(heard_at=1000.0) == 2 * PROBE_INTERVAL_S


def test_a_request_that_begins_after_the_question_is_not_closed_by_its_answer() -> None:
    activity = Activity(0.0, history_complete=True)
    activity.record_status("first", busy=True, now=1.0)
    activity.record_loss(2.0)
    question = activity.begin_probe(5.0)
    activity.record_status("second", busy=True, now=5.5)
    activity.record_answer(question, 6.0)
    assert set(activity.open) == {"second"}
    assert activity.state == "busy"


def test_what_is_lost_after_the_question_is_asked_about_again() -> None:
    activity = Activity(0.0, history_complete=True)
    activity.record_loss(1.0)
    question = activity.begin_probe(3.0)
    activity.record_loss(3.5)
    activity.record_answer(question, 4.0)
    assert not activity.is_sure
    assert activity.next_probe_at(heard_at=3.5) is not None


def test_one_that_may_have_lost_a_busy_and_does_not_answer_is_busy_until_it_does() -> None:
    activity = Activity(0.0, history_complete=True)
    activity.record_loss(1.0)
    question = activity.begin_probe(3.0)
    assert activity.state == "idle"
    activity.record_no_answer()
    assert activity.state == "busy"
    activity.record_answer(question, 100.0)
    assert activity.state == "idle"


def test_one_that_answers_while_it_works_is_not_sure_to_be_idle_until_it_says_so() -> None:
    """async-kernel answers on shell while a cell of it awaits something."""
    activity = Activity(0.0, history_complete=True)
    activity.record_status("cell", busy=True, now=1.0)
    activity.record_answer(activity.begin_probe(3.0), 3.1)
    assert (activity.state, activity.is_sure) == ("idle", False)
    activity.record_status("cell", busy=False, now=3.2 + LATE_IDLE_S)
    assert (activity.state, activity.is_sure) == ("idle", True)
    assert activity.overlaps
    activity.record_status("next", busy=True, now=20.0)
    activity.record_answer(activity.begin_probe(22.0), 22.1)
    assert activity.state == "busy", "its answers prove nothing by now"
    due = activity.next_probe_at(heard_at=20.0)
    assert due is not None
    assert due >= 22.0 + PROBE_INTERVAL_S, "and so it is not asked all the time"


def test_an_idle_that_is_only_a_little_late_tells_of_no_overlap() -> None:
    activity = Activity(0.0, history_complete=True)
    activity.record_status("cell", busy=True, now=1.0)
    activity.record_answer(activity.begin_probe(3.0), 3.1)
    activity.record_status("cell", busy=False, now=3.2)
    assert activity.is_sure
    assert not activity.overlaps


def test_one_that_overlaps_and_lost_messages_is_idle_and_not_sure() -> None:
    activity = Activity(0.0, history_complete=True, overlaps=True)
    activity.record_status("cell", busy=True, now=1.0)
    activity.record_loss(2.0)
    activity.record_answer(activity.begin_probe(4.0), 4.1)
    assert (activity.state, activity.is_sure) == ("idle", False)


def test_what_is_kept_of_a_kernel_that_never_says_idle_is_bounded() -> None:
    activity = Activity(0.0, history_complete=True)
    for number in range(3 * MAX_OPEN_REQUESTS):
        activity.record_status(str(number), busy=True, now=1.0)
    assert len(activity.open) == MAX_OPEN_REQUESTS
    assert not activity.is_sure
    activity.record_answer(activity.begin_probe(0.5), 0.6)
    for number in range(3 * MAX_OPEN_REQUESTS):
        activity.record_status(str(-number), busy=True, now=1.0)
        activity.record_answer(activity.begin_probe(2.0), 2.0)
    assert len(activity.unproven) <= MAX_OPEN_REQUESTS


def test_requests_are_told_apart_by_the_kind_of_their_shell() -> None:
    activity = Activity(0.0, history_complete=True)
    assert not activity.open_requests
    activity.record_status("aside", busy=True, now=1.0, subshell="s1")
    assert activity.open_requests == OpenRequests(frozenset(), frozenset({"aside"}))
    assert activity.open_requests.is_in_subshells_only
    activity.record_status("cell", busy=True, now=2.0)
    assert activity.open_requests == OpenRequests(frozenset({"cell"}), frozenset({"aside"}))
    assert not activity.open_requests.is_in_subshells_only
    activity.record_status("aside", busy=False, now=3.0, subshell="s1")
    activity.record_status("aside", busy=True, now=4.0)  # the id of another request by now
    assert activity.open_requests.main == {"cell", "aside"}


def test_a_request_whose_end_is_not_proven_may_be_worked_on() -> None:
    """As async-kernel does, which answers while it works."""
    activity = Activity(0.0, history_complete=True)
    activity.record_status("cell", busy=True, now=1.0)
    activity.record_status("aside", busy=True, now=1.0, subshell="s1")
    activity.record_answer(activity.begin_probe(3.0), 3.1)
    assert activity.state == "idle"
    cell, aside = frozenset({"cell"}), frozenset({"aside"})
    assert activity.open_requests == OpenRequests(cell, aside, unproven=cell | aside)
    activity.record_status("cell", busy=False, now=9.0)
    assert activity.open_requests.is_in_subshells_only
