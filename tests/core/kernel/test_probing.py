"""What the observations of a probe show."""

import pytest

from kconnd.core.kernel.probing import (
    Interruption,
    ProbeFinding,
    as_facts,
    find_long_cell,
    judge_exit,
    judge_message,
    judge_signal,
    judge_trial,
    untested,
)
from kconnd.core.launch.capabilities import CURVE, Fact, FactSource
from kconnd.core.launch.wire import FailedTrial, Trial, TrialFailure

DEAD = "exited with code 0"


@pytest.mark.parametrize(
    ("interruption", "ends", "survives", "replies"),
    [
        (Interruption(0.1, ended=True, status="error"), True, True, True),
        (Interruption(0.1, ended=True), True, True, False),
        (Interruption(6.0, ended=False), False, True, None),
        (Interruption(0.1, ended=True, exit=DEAD), False, False, None),
        (Interruption(0.1, ended=True, status="error", exit=DEAD), False, False, None),
    ],
)
def test_sigint_during_a_cell(
    interruption: Interruption,
    ends: bool,  # noqa: FBT001  # pytest's way
    survives: bool,  # noqa: FBT001  # pytest's way
    replies: bool | None,  # noqa: FBT001  # pytest's way
) -> None:
    found = {name: finding.value for name, finding in judge_signal(interruption).items()}
    assert (found["sigint_ends_cell"], found["survives_sigint"]) == (ends, survives)
    assert found.get("replies_after_interrupt") is replies


@pytest.mark.parametrize("replied", [True, False])
def test_a_message_can_be_replied_to_without_an_effect(*, replied: bool) -> None:
    found = judge_message(Interruption(6.0, ended=False, replied=replied))
    assert found["interrupt_request_ends_cell"] == ProbeFinding(
        value=False, evidence="the cell still ran 6.0 s after interrupt_request"
    )
    assert found["interrupt_reply"].value is replied
    assert "replies_after_interrupt" not in found


@pytest.mark.parametrize(
    ("replied_s", "exit_text", "value"),
    [(0.1, DEAD, True), (None, DEAD, True), (0.1, "", False), (None, "", None)],
)
def test_an_exit_after_a_shutdown(
    replied_s: float | None,
    exit_text: str,
    value: bool | None,  # noqa: FBT001  # pytest's way
) -> None:
    assert judge_exit(replied_s, exit_text, 20.0).value is value


@pytest.mark.parametrize(
    ("failure", "usual_s", "value"),
    [
        (TrialFailure.EXIT, 4.0, False),
        (TrialFailure.KILLED, 1.0, None),
        (TrialFailure.SILENCE, 1.0, False),
        (TrialFailure.SILENCE, 4.0, None),  # the machine may have been slow
    ],
)
def test_a_failed_trial(failure: TrialFailure, usual_s: float, value: bool | None) -> None:  # noqa: FBT001  # pytest's way
    failed = FailedTrial("key", Trial.CURVE, failure, 5.0, "seen")
    finding = judge_trial(failed, usual_s)
    assert finding.value is value
    assert "seen" in finding.evidence


def test_only_what_was_tested_is_a_fact() -> None:
    findings = {CURVE: ProbeFinding(value=True, evidence="seen"), **untested(["other"], "why")}
    assert as_facts(findings, 7.0) == {
        CURVE: Fact(value=True, source=FactSource.PROBE, evidence="seen", at=7.0)
    }


def test_a_language_has_a_long_cell_whatever_its_case() -> None:
    assert find_long_cell("R") == find_long_cell("r") != ""
    assert find_long_cell("nosuch") == ""
