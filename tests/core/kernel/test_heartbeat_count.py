"""Which missed heartbeats count, and what is said of a kernel's heartbeats."""

from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.kernel.heartbeat_count import NO_REQUESTS, HeartbeatCount

CELL = frozenset({"cell"})


def test_nothing_is_known_before_the_first_answer() -> None:
    beats = HeartbeatCount(sent_at=0.0)
    assert beats.record_missed(NO_REQUESTS, idle_since=0.0, must_beat_busy=False)
    assert beats.status == "unknown"


def test_an_idle_kernel_misses_every_unanswered_heartbeat() -> None:
    beats = HeartbeatCount(sent_at=0.0)
    beats.record_answer(1.0)
    for count in (1, 2, 3):
        beats.record_sent(float(count), NO_REQUESTS)
        assert beats.record_missed(NO_REQUESTS, idle_since=0.0, must_beat_busy=False)
        assert (beats.missed, beats.status) == (count, "missed")
    beats.record_answer(4.0)
    assert (beats.missed, beats.status, beats.answered_at) == (0, "alive", 4.0)


def test_a_miss_during_a_request_counts_only_if_the_kernel_answers_then() -> None:
    beats = HeartbeatCount(sent_at=0.0)
    beats.record_answer(1.0)
    beats.record_sent(2.0, CELL)
    assert not beats.record_missed(CELL, idle_since=None, must_beat_busy=False)
    assert (beats.missed, beats.missed_busy, beats.status) == (0, True, "unknown")
    assert beats.record_missed(CELL, idle_since=None, must_beat_busy=True)
    assert (beats.missed, beats.status) == (1, "missed")


def test_a_kernel_that_became_idle_after_the_heartbeat_may_have_missed_it() -> None:
    beats = HeartbeatCount(sent_at=0.0)
    beats.record_answer(1.0)
    beats.record_sent(2.0, CELL)
    assert not beats.record_missed(NO_REQUESTS, idle_since=2.5, must_beat_busy=False)
    assert (beats.missed_busy, beats.status) == (False, "alive"), "the request has ended since"


@given(
    st.lists(
        st.tuples(st.sampled_from([NO_REQUESTS, CELL, frozenset({"a", "b"})]), st.booleans()),
        max_size=12,
    )
)
def test_an_answer_ends_every_count(heard: list[tuple[frozenset[str], bool]]) -> None:
    beats = HeartbeatCount(sent_at=0.0)
    for now, (requests, answered) in enumerate(heard, 1):
        if answered:
            beats.record_answer(float(now))
            assert (beats.missed, beats.missed_busy, beats.status) == (0, False, "alive")
        else:
            counts = beats.record_missed(requests, idle_since=None, must_beat_busy=False)
            assert not counts
            assert beats.missed_busy <= any(asked for asked, _ in heard[:now])
        beats.record_sent(float(now), requests)
