"""When an idle kernel is checked, and how one that does not answer is described."""

import math

import pytest

from kconnd.core.kernel.silence import (
    CHECK_AFTER_S,
    SILENT_AFTER_S,
    describe_silence,
    is_check_due,
)


@pytest.mark.parametrize(
    ("active_at", "proved_at", "now", "is_due"),
    [
        (10.0, 5.0, 10.0 + CHECK_AFTER_S, True),
        (10.0, 5.0, 9.9 + CHECK_AFTER_S, False),
        (10.0, 11.0, 1e6, False),  # it has answered since
        (10.0, 10.0, 1e6, False),  # as after the first answer
        (math.inf, -math.inf, 1e6, False),  # it has not answered yet
    ],
)
def test_a_kernel_is_checked_once_after_the_requests_of_clients(
    active_at: float,
    proved_at: float,
    now: float,
    is_due: bool,  # noqa: FBT001  # pytest's way
) -> None:
    assert is_check_due(active_at, proved_at, now) is is_due


def test_a_kernel_is_silent_only_after_a_time() -> None:
    assert describe_silence(SILENT_AFTER_S - 0.1, control_answers=True) == ""
    silence = "it reports idle, but has not answered on its shell channel for 40 s"
    assert describe_silence(40.2, control_answers=False) == silence
    answers = describe_silence(40.2, control_answers=True)
    assert answers == f"{silence}, although its control channel answers"
