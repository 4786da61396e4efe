"""Chooses the wire of a kernel: private Unix sockets, tcp with CURVE, or plain tcp.

``transport: auto`` prefers Unix sockets, because file permissions keep other users out. The second
choice is tcp with CURVE, and the third choice is plain tcp with a warning. A wire that the kernel
certainly supports is used. A wire that the kernel may support is tried: if the kernel cannot be
reached on this wire, the same start continues with plain tcp. Without known facts, the first start
uses plain tcp, as Jupyter does, and measures how long the start takes. The next start tries Unix
sockets. If the kernel does not bind Unix sockets, a later start tries CURVE. A restart keeps the
wire, because clients are attached.

A shared kernel uses CURVE unless it is known not to support CURVE. Its start tries nothing, because
there is no wire to fall back to: a kernel that ignores its keys does not start.
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

TRIAL_FACTOR = 3  # a trial may take this many times as long as a usual start
MIN_TRIAL_S = 5.0  # other starts on the machine can delay a start by seconds


class Trial(StrEnum):
    """The wire that a start tries although it is uncertain whether the kernel supports the wire."""

    UNIX_SOCKETS = "Unix sockets"
    CURVE = "CURVE"


TRIED_FACT = {Trial.UNIX_SOCKETS: UNIX_SOCKETS, Trial.CURVE: CURVE}


class Attempts(StrEnum):
    """The wires that a start may use."""

    KNOWN = "known"  # after a failed trial: only wires that the kernel is known to support
    LIKELY = "likely"  # also wires that the kernel probably supports
    ALL = "all"


@dataclass(frozen=True)
class WireSettings:
    """The settings of a profile that affect the choice of the wire.

    Parameters
    ----------
    transport, encryption : str
        The values of the keys ``transport`` and ``encryption``.
    needs_tcp : bool
        Whether another setting needs tcp.
    needs_privacy : bool
        Whether plain tcp is forbidden because the kernel is shared.
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
        The wire that the start tries; if the trial fails, the start falls back to plain tcp. None
        if the start tries no wire.
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
    if settings.needs_privacy:
        return WireChoice("tcp", encrypted=certainty is not _Certainty.NO)
    if certainty is _Certainty.YES:
        return WireChoice("tcp", encrypted=True)
    if _is_used(certainty, attempts):
        return WireChoice("tcp", encrypted=True, trial=Trial.CURVE if is_auto else None)
    if is_auto and _is_worth_trying(certainty, facts, attempts):
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
    """Return whether to try a wire about which no fact is known.

    A wire is tried only if an earlier start was timed, because the time limit of a trial is a
    multiple of the duration of a usual start.
    """
    is_open = certainty is _Certainty.UNKNOWN and attempts is Attempts.ALL
    return is_open and SECONDS_TO_START in facts


def find_trial(
    settings: WireSettings, facts: Capabilities, transport: str, *, encrypted: bool
) -> Trial | None:
    """Return the trial that the start of a process was, from the process's wire; None if no trial.

    Parameters
    ----------
    settings : WireSettings
        The settings of the profile that the process was started with.
    facts : mapping
        The facts about the kernel's software.
    transport : str
        The transport of the process.
    encrypted : bool
        Whether the process was started with CURVE keys.
    """
    if settings.transport != "auto":
        return None
    if transport == "ipc":
        trial = Trial.UNIX_SOCKETS
    elif encrypted and settings.encryption != "curve" and not settings.needs_privacy:
        trial = Trial.CURVE
    else:
        return None
    return None if _certainty(facts, TRIED_FACT[trial]) is _Certainty.YES else trial


def trial_limit_s(facts: Capabilities, startup_timeout_s: float) -> float:
    """Return how many seconds a trial waits for a kernel that does not answer."""
    if SECONDS_TO_START not in facts:
        return startup_timeout_s / 2
    usual_s = float(facts[SECONDS_TO_START].value)
    return min(max(TRIAL_FACTOR * usual_s, MIN_TRIAL_S), startup_timeout_s / 2)


class TrialFailure(StrEnum):
    """The way in which a trial failed."""

    ELSEWHERE = "elsewhere"  # the kernel listened at other addresses
    PLAIN = "plain"  # the kernel listened without encryption
    EXIT = "exit"  # the kernel exited before it answered
    KILLED = "killed"  # the kernel was killed
    SILENCE = "silence"  # the kernel did not answer in time
    UNSEEN = "unseen"  # the kernel exited after its daemon, and may have worked before


NO_PROOF = frozenset({TrialFailure.KILLED, TrialFailure.UNSEEN})


@dataclass(frozen=True)
class FailedTrial:
    """A trial that failed.

    Parameters
    ----------
    key : str
        The key of the kernel's software.
    trial : Trial
        The wire that was tried.
    failure : TrialFailure
        The way in which the trial failed.
    waited_s : float
        The duration of the trial, in seconds.
    evidence : str
        The observation, for display.
    """

    key: str
    trial: Trial
    failure: TrialFailure
    waited_s: float
    evidence: str

    def proves(self, key: str, answered_after_s: float) -> bool:
        """Return whether the failure proves that the kernel does not support the wire.

        After the failed trial, the start falls back to plain tcp. If the kernel answers on plain
        tcp, the cause of the failure was the tried wire. There are two exceptions. A kernel that
        was killed during the trial, or that may have exited after its first answer, proves
        nothing. A kernel that did not answer during the trial may only have been slow; this failure
        is a proof only if the kernel then answered on plain tcp in less than half of the duration
        of the trial.

        Parameters
        ----------
        key : str
            The key of the software that has answered on plain tcp. If the software is not the same,
            the failure proves nothing.
        answered_after_s : float
            Seconds from the launch to the answer.
        """
        if key != self.key or self.failure in NO_PROOF:
            return False
        # A start can be slow by chance. Silence is therefore no proof unless the fallback was much
        # faster.
        return self.failure is not TrialFailure.SILENCE or 2 * answered_after_s < self.waited_s
