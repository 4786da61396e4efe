"""Chooses the wire of a kernel: private Unix sockets, tcp with CURVE, or plain tcp.

``transport: auto`` prefers Unix sockets, since they exclude other users, then CURVE, then plain tcp
with a warning. A wire that the kernel is known to speak is used. A wire that it may speak is tried,
and if that fails, the same start falls back to plain tcp. Of a kernel without any known facts, the
first start is on plain tcp, as Jupyter's, and shows how long a start takes. The next start tries
Unix sockets, and one after that CURVE, if it does not bind Unix sockets. A restart tries nothing
and keeps the wire, since clients are attached to it.
"""

from dataclasses import dataclass
from enum import StrEnum

from kconnd.core.launch.capabilities import (
    CURVE,
    LIKELY,
    SECONDS_TO_START,
    UNIX_SOCKETS,
    Capabilities,
)

TRIAL_FACTOR = 3  # times that a start usually takes
MIN_TRIAL_S = 5.0  # other starts on the machine can delay one by seconds


class Trial(StrEnum):
    """The wire that a start tries."""

    UNIX_SOCKETS = "Unix sockets"
    CURVE = "CURVE"


TRIED_FACT = {Trial.UNIX_SOCKETS: UNIX_SOCKETS, Trial.CURVE: CURVE}


class Attempts(StrEnum):
    """The wires that a start may use."""

    KNOWN = "known"  # only wires that the kernel is known to speak: after a trial failed
    LIKELY = "likely"  # also wires that it probably speaks
    ALL = "all"


@dataclass(frozen=True)
class WireSettings:
    """The settings of a profile that decide about the wire.

    Parameters
    ----------
    transport, encryption : str
        The values of these keys.
    needs_tcp : bool
        Whether another setting needs tcp.
    needs_privacy : bool
        Whether plain tcp is not allowed, because the kernel is shared.
    """

    transport: str = "auto"
    encryption: str = "auto"
    needs_tcp: bool = False
    needs_privacy: bool = False


@dataclass(frozen=True)
class WireChoice:
    """The wire of a start.

    Parameters
    ----------
    transport : str
        ``ipc`` or ``tcp``.
    encrypted : bool
        Whether the channels use CURVE.
    trial : Trial, optional
        What the start tries; it falls back to plain tcp.
    """

    transport: str
    encrypted: bool
    trial: Trial | None = None


class _Certainty(StrEnum):
    NO = "no"
    UNKNOWN = "unknown"
    LIKELY = "likely"
    YES = "yes"


def choose_wire(
    settings: WireSettings, facts: Capabilities, attempts: Attempts = Attempts.ALL
) -> WireChoice:
    """Choose the wire of a start.

    Parameters
    ----------
    settings : WireSettings
        The settings of the profile.
    facts : mapping
        The facts about the kernel's software.
    attempts : Attempts
        The wires that the start may use.
    """
    if settings.transport == "ipc":
        return WireChoice("ipc", settings.encryption == "curve")
    if settings.transport == "auto" and not settings.needs_tcp:
        certainty = _certainty(facts, UNIX_SOCKETS)
        if _is_used(certainty, attempts) or _is_worth_trying(certainty, facts, attempts):
            trial = None if certainty is _Certainty.YES else Trial.UNIX_SOCKETS
            return WireChoice("ipc", encrypted=False, trial=trial)
    return _choose_on_tcp(settings, facts, attempts)


def _choose_on_tcp(settings: WireSettings, facts: Capabilities, attempts: Attempts) -> WireChoice:
    if settings.encryption != "auto":
        return WireChoice("tcp", settings.encryption == "curve")
    certainty, is_auto = _certainty(facts, CURVE), settings.transport == "auto"
    if certainty is _Certainty.YES:
        return WireChoice("tcp", encrypted=True)
    if _is_used(certainty, attempts):
        return WireChoice("tcp", encrypted=True, trial=Trial.CURVE if is_auto else None)
    has_no_sockets = settings.needs_tcp or _certainty(facts, UNIX_SOCKETS) is _Certainty.NO
    worth = _is_worth_trying(certainty, facts, attempts) and has_no_sockets
    if is_auto and (worth or (settings.needs_privacy and _may_try(certainty, attempts))):
        return WireChoice("tcp", encrypted=True, trial=Trial.CURVE)
    return WireChoice("tcp", encrypted=False)


def _certainty(facts: Capabilities, name: str) -> _Certainty:
    fact = facts.get(name)
    if fact is None:
        return _Certainty.UNKNOWN
    if not fact.value:
        return _Certainty.NO
    return _Certainty.LIKELY if fact.source in LIKELY else _Certainty.YES


def _is_used(certainty: _Certainty, attempts: Attempts) -> bool:
    is_likely = certainty is _Certainty.LIKELY and attempts is not Attempts.KNOWN
    return certainty is _Certainty.YES or is_likely


def _is_worth_trying(certainty: _Certainty, facts: Capabilities, attempts: Attempts) -> bool:
    """Return whether to try a wire of which nothing is known, after a first start."""
    return _may_try(certainty, attempts) and SECONDS_TO_START in facts


def _may_try(certainty: _Certainty, attempts: Attempts) -> bool:
    return certainty is _Certainty.UNKNOWN and attempts is Attempts.ALL


def trial_limit_s(facts: Capabilities, startup_timeout_s: float) -> float:
    """Return how long a trial waits for an answer of a kernel that listens nowhere."""
    if SECONDS_TO_START not in facts:
        return startup_timeout_s / 2
    usual_s = float(facts[SECONDS_TO_START].value)
    return min(max(TRIAL_FACTOR * usual_s, MIN_TRIAL_S), startup_timeout_s / 2)


class TrialFailure(StrEnum):
    """The way in which a trial failed."""

    ELSEWHERE = "elsewhere"  # it listened at other addresses
    PLAIN = "plain"  # it listened without encryption
    EXIT = "exit"  # it exited before it answered
    KILLED = "killed"  # somebody killed it
    SILENCE = "silence"  # it did not answer in time


@dataclass(frozen=True)
class FailedTrial:
    """A trial that failed.

    Parameters
    ----------
    key : str
        The key of the kernel's software.
    trial : Trial
        What was tried.
    failure : TrialFailure
        The way in which it failed.
    waited_s : float
        How long the trial took, in seconds.
    evidence : str
        The observation, for people.
    """

    key: str
    trial: Trial
    failure: TrialFailure
    waited_s: float
    evidence: str

    def proves(self, key: str, answered_after_s: float) -> bool:
        """Return whether the kernel does not speak what was tried.

        The same start has fallen back to plain tcp. Its answer shows that nothing else is wrong
        with the kernel.

        Parameters
        ----------
        key : str
            The key of the software that has answered.
        answered_after_s : float
            Seconds until it has answered.
        """
        if key != self.key or self.failure is TrialFailure.KILLED:
            return False
        return self.failure is not TrialFailure.SILENCE or answered_after_s < self.waited_s
