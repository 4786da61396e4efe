"""News for a record, and which of it has to reach the disk at once."""

from dataclasses import replace

import pytest

from kconnd.core.kernel.events import Answered, Launched
from kconnd.core.kernel.habits import Habits
from kconnd.core.kernel.learned import Learned, facts_of, learn, needs_saving, without_deadline
from kconnd.core.kernel.lifecycle import Desired, Lifecycle, State, StopCause
from kconnd.core.kernel.record import Facts, KernelRecord, LastExit, parse_record, to_json

LAUNCHING = KernelRecord("lab", Lifecycle(State.LAUNCHING, Desired.UP, generation=2))
STARTING = replace(
    LAUNCHING,
    lifecycle=replace(
        LAUNCHING.lifecycle, state=State.STARTING, deadline=60.0, reason="as decided"
    ),
    handle={"launcher": "fake"},
)
RUNNING = replace(STARTING, lifecycle=replace(STARTING.lifecycle, state=State.RUNNING))


def test_only_the_fields_that_are_news_change() -> None:
    after = learn(STARTING, Learned(2, facts=Facts(kernel_name="ir")))
    assert after == replace(STARTING, facts=Facts(kernel_name="ir"))


def test_news_of_an_earlier_process_changes_nothing() -> None:
    assert learn(STARTING, Learned(1, facts=Facts(kernel_name="ir"))) is STARTING


@pytest.mark.parametrize("cause", [None, *StopCause])
def test_an_exit_is_requested_if_a_stop_or_a_restart_was(cause: StopCause | None) -> None:
    stopping = replace(RUNNING, lifecycle=replace(RUNNING.lifecycle, stop_cause=cause))
    last_exit = LastExit(0, None, "exited with code 0", None, "")
    after = learn(stopping, Learned(2, last_exit=last_exit))
    requested = cause in {StopCause.STOP, StopCause.RESTART}
    assert after.last_exit == replace(last_exit, requested=requested)
    assert parse_record(to_json(after)) == replace(
        after, lifecycle=without_deadline(after).lifecycle
    )
    assert "requested" not in to_json(after)["last_exit"], "version 0.1.0 would refuse the record"


def test_the_progress_of_a_saved_launch_is_not_saved() -> None:
    assert not needs_saving(LAUNCHING, STARTING, Launched(2))
    assert needs_saving(LAUNCHING, RUNNING, Answered(2))


@pytest.mark.parametrize(
    "changes", [{"generation": 3}, {"desired": Desired.DOWN}, {"proved": True}, {"port_tries": 1}]
)
def test_another_decision_about_a_launch_is_saved(changes: dict[str, object]) -> None:
    other = replace(STARTING, lifecycle=replace(STARTING.lifecycle, **changes))  # type: ignore[arg-type]  # one field
    assert needs_saving(LAUNCHING, other, Launched(2))


def test_a_deadline_is_never_saved() -> None:
    later = replace(RUNNING, lifecycle=replace(RUNNING.lifecycle, deadline=99.0))
    assert not needs_saving(RUNNING, later, Answered(2))


def test_habits_wait_for_the_next_write_unless_work_may_depend_on_them() -> None:
    beats = Learned(2, habits=Habits(beats=True))
    overlaps = Learned(2, habits=Habits(overlaps=True))
    assert not needs_saving(RUNNING, learn(RUNNING, beats), beats)
    assert needs_saving(RUNNING, learn(RUNNING, beats), Answered(2)), "with the next event"
    assert needs_saving(RUNNING, learn(RUNNING, overlaps), overlaps)
    warning = Learned(2, facts=Facts(warnings=("no sockets",)))
    assert needs_saving(RUNNING, learn(learn(RUNNING, beats), warning), warning)


def test_facts_are_read_from_a_reply_as_far_as_it_makes_sense() -> None:
    reply = {"language_info": {"name": "R", "version": 4}, "implementation": "x" * 300}
    assert facts_of(reply) == {"language": "R", "implementation": "x" * 100}
    assert facts_of({"language_info": "R"}) == {}
