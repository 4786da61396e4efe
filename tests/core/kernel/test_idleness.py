"""Whether the processes of a kernel show that it works."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.kernel.idleness import Sample, describe_use, measured_span_s, trim_samples

KERNEL, CHILD = (10, 1), (11, 5)


def samples(*uses: float, step: float = 10.0) -> list[Sample]:
    return [Sample(number * step, {KERNEL: used}) for number, used in enumerate(uses)]


def test_a_minute_or_less_is_looked_at() -> None:
    assert measured_span_s(3600) == 60
    assert measured_span_s(5) == 5


def test_nothing_is_said_before_the_span_is_over() -> None:
    assert describe_use([], 60) is None
    assert describe_use(samples(0, 0, 0), 60) is None
    assert describe_use(samples(0, 0, 0), 20) == ""


@pytest.mark.parametrize(
    ("used", "says"),
    [
        (0.0, ""),
        (0.05, ""),
        (0.59, ""),
        (0.61, "its processes used 1.0% of a core over the last 60 s"),
        (30.0, "its processes used 50.0% of a core over the last 60 s"),
    ],
)
def test_one_percent_of_a_core_is_the_border(used: float, says: str) -> None:
    assert describe_use(samples(5.0, *[5.0] * 5, 5.0 + used), 60) == says


def test_only_the_last_span_counts() -> None:
    assert describe_use(samples(0, 50, 50, 50), 20) == ""


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_process_that_came_or_went_may_have_worked(which: int) -> None:
    found = samples(1, 1, 1)
    found[which] = Sample(found[which].at, {KERNEL: 1.0, CHILD: 0.0})
    assert describe_use(found, 20) == "some of its processes started or exited in the last 20 s"


def test_one_of_which_nothing_can_be_read_is_kept() -> None:
    assert describe_use([Sample(0, {}), Sample(30, {})], 20) == "its processes cannot be read"


def test_in_a_short_span_two_steps_of_the_clock_are_no_work() -> None:
    assert describe_use(samples(0, 0.01, step=1.0), 1) == ""
    assert describe_use(samples(0, 0.02, step=1.0), 1) != ""


@given(st.lists(st.floats(0, 300), min_size=1, max_size=50), st.floats(1, 60))
def test_what_is_dropped_is_not_needed(times: list[float], span: float) -> None:
    found = [Sample(at, {KERNEL: at / 7}) for at in sorted(times)]
    less = trim_samples(found, span)
    assert describe_use(found, span) == describe_use(less, span)
    assert sum(less[-1].at - one.at >= span for one in less) <= 1 or times.count(times[0]) > 1
