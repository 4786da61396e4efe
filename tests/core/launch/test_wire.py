"""The choice of a wire: what a kernel is known to speak, what is tried, and what follows."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.launch.capabilities import (
    CURVE,
    SECONDS_TO_START,
    UNIX_SOCKETS,
    Capabilities,
    Fact,
    FactSource,
)
from kconnd.core.launch.wire import (
    Attempts,
    FailedTrial,
    Trial,
    TrialFailure,
    WireChoice,
    WireSettings,
    choose_wire,
    find_trial,
    trial_limit_s,
)

AUTO = WireSettings()
TCP = WireSettings(needs_tcp=True)
SHARED = WireSettings(needs_tcp=True, needs_privacy=True)
PLAIN = WireChoice("tcp", encrypted=False)
UNIX, ENCRYPTED = WireChoice("ipc", encrypted=False), WireChoice("tcp", encrypted=True)
TRY_UNIX = WireChoice("ipc", encrypted=False, trial=Trial.UNIX_SOCKETS)
TRY_CURVE = WireChoice("tcp", encrypted=True, trial=Trial.CURVE)
STARTED = {SECONDS_TO_START: Fact(2.0, FactSource.START, "")}


def facts(
    unix: Any = None, curve: Any = None, source: FactSource = FactSource.START
) -> dict[str, Fact]:
    pairs = {UNIX_SOCKETS: unix, CURVE: curve}
    return {name: Fact(value, source, "") for name, value in pairs.items() if value is not None}


@pytest.mark.parametrize(
    ("settings", "known", "choice"),
    [
        (AUTO, {}, PLAIN),  # the first start
        (AUTO, STARTED, TRY_UNIX),  # the second
        (AUTO, STARTED | facts(unix=False), TRY_CURVE),  # the third
        (AUTO, STARTED | facts(unix=False, curve=False), PLAIN),
        (AUTO, STARTED | facts(unix=False, curve=True), ENCRYPTED),
        (AUTO, facts(unix=True), UNIX),
        (AUTO, facts(unix=True, source=FactSource.MEASURED), UNIX),
        (AUTO, facts(unix=True, source=FactSource.METADATA), TRY_UNIX),
        (AUTO, facts(unix=False), PLAIN),
        (AUTO, facts(unix=False, curve=True), ENCRYPTED),
        (AUTO, facts(curve=True, source=FactSource.DECLARED), TRY_CURVE),
        (TCP, facts(unix=True), PLAIN),
        (TCP, STARTED | facts(unix=True), TRY_CURVE),
        (TCP, facts(unix=True, curve=True), ENCRYPTED),
        (SHARED, {}, ENCRYPTED),  # there is nothing to fall back to
        (SHARED, facts(curve=True, source=FactSource.METADATA), ENCRYPTED),
        (SHARED, facts(curve=False), PLAIN),  # which the daemon refuses
        (WireSettings("tcp", needs_privacy=True), {}, ENCRYPTED),
        (WireSettings("tcp"), STARTED, PLAIN),
        (WireSettings("tcp"), facts(curve=True), ENCRYPTED),
        (WireSettings("tcp"), facts(curve=True, source=FactSource.DECLARED), ENCRYPTED),
        (WireSettings("ipc"), facts(unix=False), UNIX),
        (WireSettings("ipc", "curve"), {}, WireChoice("ipc", encrypted=True)),
        (WireSettings("auto", "none", needs_tcp=True), facts(curve=True), PLAIN),
        (WireSettings("auto", "none"), STARTED, TRY_UNIX),
        (WireSettings("auto", "curve", needs_tcp=True), {}, ENCRYPTED),
    ],
)
def test_a_private_wire_is_preferred(
    settings: WireSettings, known: Capabilities, choice: WireChoice
) -> None:
    assert choose_wire(settings, known) == choice


@pytest.mark.parametrize(
    ("known", "likely", "known_only"),
    [
        (STARTED, PLAIN, PLAIN),
        (facts(unix=True, source=FactSource.METADATA), TRY_UNIX, PLAIN),
        (facts(curve=True, source=FactSource.DECLARED), TRY_CURVE, PLAIN),
        (facts(unix=True), UNIX, UNIX),
    ],
)
def test_fewer_attempts_can_be_allowed(
    known: Capabilities, likely: WireChoice, known_only: WireChoice
) -> None:
    assert choose_wire(AUTO, known, Attempts.LIKELY) == likely
    assert choose_wire(AUTO, known, Attempts.KNOWN) == known_only


FLAG = st.sampled_from([None, True, False])
SETTINGS = st.builds(
    WireSettings,
    st.sampled_from(["auto", "tcp", "ipc"]),
    st.sampled_from(["auto", "curve", "none"]),
    st.booleans(),
    st.booleans(),
)


@given(
    SETTINGS,
    FLAG,
    FLAG,
    st.sampled_from(FactSource),
    st.booleans(),
)
def test_a_fallback_tries_nothing_and_a_refuted_wire_is_never_chosen(
    settings: WireSettings,
    unix: Any,
    curve: Any,
    source: FactSource,
    started: bool,  # noqa: FBT001  # hypothesis' way
) -> None:
    known = facts(unix, curve, source) | (STARTED if started else {})
    fallback = choose_wire(settings, known, Attempts.KNOWN)
    assert fallback.trial is None
    for attempts in Attempts:
        choice = choose_wire(settings, known, attempts)
        if settings.transport == "auto" and (unix is False or settings.needs_tcp):
            assert choice.transport == "tcp"
        if settings.encryption == "auto" and curve is False:
            assert not choice.encrypted
        if settings.needs_privacy and settings.encryption == "auto" and curve is not False:
            assert choice.encrypted or choice.transport == "ipc"
        if settings.transport != "auto":
            assert choice.trial is None


@given(
    SETTINGS,
    FLAG,
    FLAG,
    st.sampled_from(FactSource),
    st.booleans(),
)
def test_a_trial_is_recognized_by_its_wire(
    settings: WireSettings,
    unix: Any,
    curve: Any,
    source: FactSource,
    started: bool,  # noqa: FBT001  # hypothesis' way
) -> None:
    known = facts(unix, curve, source) | (STARTED if started else {})
    choice = choose_wire(settings, known)
    assert find_trial(settings, known, choice.transport, encrypted=choice.encrypted) == choice.trial


def test_a_trial_is_recognized_after_its_wire_was_refuted() -> None:
    assert find_trial(AUTO, facts(unix=False), "ipc", encrypted=False) is Trial.UNIX_SOCKETS
    assert find_trial(AUTO, facts(curve=False), "tcp", encrypted=True) is Trial.CURVE


def test_a_trial_takes_no_longer_than_three_usual_starts() -> None:
    assert trial_limit_s({}, 60) == 30
    assert trial_limit_s(STARTED, 60) == 6.0
    assert trial_limit_s({SECONDS_TO_START: Fact(0.3, FactSource.START, "")}, 60) == 5.0
    assert trial_limit_s(STARTED, 8) == 4.0


@pytest.mark.parametrize(
    ("failure", "answered_after_s", "proves"),
    [
        (TrialFailure.ELSEWHERE, 100.0, True),
        (TrialFailure.PLAIN, 100.0, True),
        (TrialFailure.EXIT, 100.0, True),
        (TrialFailure.SILENCE, 2.4, True),
        (TrialFailure.SILENCE, 2.6, False),
        (TrialFailure.KILLED, 1.0, False),
        (TrialFailure.UNSEEN, 1.0, False),
    ],
)
def test_a_failed_trial_proves_something_once_the_fallback_has_answered(
    failure: TrialFailure,
    answered_after_s: float,
    proves: bool,  # noqa: FBT001  # pytest's way
) -> None:
    trial = FailedTrial("key", Trial.UNIX_SOCKETS, failure, 5.0, "")
    assert trial.proves("key", answered_after_s) is proves
    assert not trial.proves("other", answered_after_s)
