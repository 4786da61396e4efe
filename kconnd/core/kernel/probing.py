"""Derives facts about a kernel's software from the observations of a probe.

How it works. A probe (``kconnd-ctl kernelspec probe``) runs a cell that lasts a minute on a kernel
of its own, interrupts the cell, and later shuts the kernel down. `kconnd.daemon.probing` makes the
observations; the functions of this module derive a finding for each fact. A finding without a value
states why the fact was not tested.

Rule: a cell that runs long has to be written in the kernel's language, and the code must not need
any package. `LONG_CELLS` contains such cells. For any other language, the facts about running cells
are not tested.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kconnd.core.launch.capabilities import (
    BEATS_BUSY,
    INTERRUPT_REPLY,
    MESSAGE_ENDS_CELL,
    REPLIES_INTERRUPTED,
    SIGINT_ENDS_CELL,
    SURVIVES_SIGINT,
    Fact,
    FactSource,
)
from kconnd.core.launch.wire import FailedTrial

SHORT_CELL = "1"  # valid in most languages; a kernel replies to an invalid cell as well
# The facts that only a running cell can show.
CELL_FACTS = (
    BEATS_BUSY,
    SIGINT_ENDS_CELL,
    SURVIVES_SIGINT,
    MESSAGE_ENDS_CELL,
    INTERRUPT_REPLY,
    REPLIES_INTERRUPTED,
)
_JAVASCRIPT = "(() => { const end = Date.now() + 60000; while (Date.now() < end); })()"
_JAVA = "for (int i = 0; i < 600; i++) Thread.sleep(100);"
# Cells that run for a minute, by the lower-case name of the language. Each cell consists of short
# pauses, because some interpreters notice an interrupt only between two pauses.
LONG_CELLS: Mapping[str, str] = {
    "python": "import time\nfor _ in range(600): time.sleep(0.1)",
    "r": "for (i in 1:600) Sys.sleep(0.1)",
    "bash": "for i in $(seq 600); do sleep 0.1; done",
    "julia": "for i in 1:600; sleep(0.1); end",
    "javascript": _JAVASCRIPT,
    "typescript": _JAVASCRIPT,
    "octave": "for i = 1:600, pause(0.1); end",
    "matlab": "for i = 1:600, pause(0.1); end",
    "ruby": "600.times { sleep 0.1 }",
    "lua": "local to = os.time() + 60 while os.time() < to do end",
    "scheme": "(define (f) (f)) (f)",
    "gnuplot": "pause 60",
    "c": "#include <unistd.h>\nint main() { sleep(60); }",
    "java": _JAVA,
    "kotlin": "for (i in 1..600) Thread.sleep(100)",
}


def find_long_cell(language: str) -> str:
    """Return a cell that runs for a minute; ``""`` if no such cell is known for the language."""
    return LONG_CELLS.get(language.lower(), "")


@dataclass(frozen=True)
class ProbeFinding:
    """The result of testing a fact.

    Parameters
    ----------
    value : bool or float, optional
        The value of the fact; None if the fact was not tested.
    evidence : str
        The observation that shows the fact, or the reason why it was not tested.
    """

    value: bool | float | None
    evidence: str


ProbeFindings = Mapping[str, ProbeFinding]


def untested(facts: Iterable[str], reason: str) -> dict[str, ProbeFinding]:
    """Return findings without values."""
    return {name: ProbeFinding(None, reason) for name in facts}


def as_facts(findings: ProbeFindings, at: float) -> dict[str, Fact]:
    """Return the facts of those findings that have a value.

    Parameters
    ----------
    findings : mapping
        The findings.
    at : float
        The date, in seconds since the epoch.
    """
    return {
        name: Fact(finding.value, FactSource.PROBE, finding.evidence, at)
        for name, finding in findings.items()
        if finding.value is not None
    }


@dataclass(frozen=True)
class Interruption:
    """The observed effect of an interrupt on a running cell.

    Parameters
    ----------
    waited_s : float
        Seconds from the interrupt to the end of the cell or, if the cell did not end, to the end of
        the observation.
    ended : bool
        Whether the cell ended.
    status : str
        The status in the reply to the cell's ``execute_request``; ``""`` if no reply arrived.
    exit : str
        The description of the kernel's exit; ``""`` if the kernel is alive.
    replied : bool
        Whether the reply to ``interrupt_request`` arrived; False for SIGINT.
    """

    waited_s: float
    ended: bool
    status: str = ""
    exit: str = ""
    replied: bool = False


def judge_signal(interruption: Interruption) -> dict[str, ProbeFinding]:
    """Derive the facts that SIGINT during a cell shows."""
    effect = _describe_effect(interruption, "SIGINT")
    ends_cell = interruption.ended and not interruption.exit
    findings = {
        SIGINT_ENDS_CELL: ProbeFinding(ends_cell, effect),
        SURVIVES_SIGINT: ProbeFinding(not interruption.exit, effect),
    }
    return findings | _judge_reply(interruption, "SIGINT")


def judge_message(interruption: Interruption) -> dict[str, ProbeFinding]:
    """Derive the facts that an ``interrupt_request`` during a cell shows."""
    effect = _describe_effect(interruption, "interrupt_request")
    ends_cell = interruption.ended and not interruption.exit
    text = "interrupt_reply arrived" if interruption.replied else "no interrupt_reply arrived"
    findings = {
        MESSAGE_ENDS_CELL: ProbeFinding(ends_cell, effect),
        INTERRUPT_REPLY: ProbeFinding(interruption.replied, text),
    }
    return findings | _judge_reply(interruption, "interrupt_request")


def _describe_effect(interruption: Interruption, way: str) -> str:
    after_s = f"{interruption.waited_s:.1f} s after {way}"
    if interruption.exit:
        return f"after {way}, it {interruption.exit}"
    return f"the cell ended {after_s}" if interruption.ended else f"the cell still ran {after_s}"


def _judge_reply(interruption: Interruption, way: str) -> dict[str, ProbeFinding]:
    """Return whether the cell's reply arrived, if the interrupt has ended the cell alone."""
    if interruption.exit or not interruption.ended:
        return {}
    status = interruption.status
    text = f"with status {status!r}" if status else "no execute_reply"
    return {REPLIES_INTERRUPTED: ProbeFinding(bool(status), f"{text} after {way}")}


def judge_exit(replied_after_s: float | None, exit_text: str, lived_s: float) -> ProbeFinding:
    """Derive whether a kernel exits by itself after its reply to ``shutdown_request``.

    Parameters
    ----------
    replied_after_s : float, optional
        Seconds from the request to the reply; None if no reply arrived.
    exit_text : str
        The description of the exit; ``""`` if the kernel is alive.
    lived_s : float
        Seconds from the reply to the exit or, without an exit, to the end of the observation. If
        no reply arrived, seconds from the request.
    """
    if exit_text:
        # A kernel can exit before its reply leaves; it has exited by itself in any case.
        return ProbeFinding(True, f"it {exit_text}, {lived_s:.1f} s after shutdown")  # noqa: FBT003  # the value
    if replied_after_s is None:
        return ProbeFinding(None, f"not tested: no shutdown_reply arrived within {lived_s:.0f} s")
    return ProbeFinding(False, f"{lived_s:.0f} s after its shutdown_reply it was alive")  # noqa: FBT003  # the value


def describe_exposures(warnings: Iterable[str]) -> str:
    """Describe sockets that the connection file does not name, from the warnings about them."""
    return "; ".join(warnings) or "it has no other tcp socket"


def describe_rewriting(*, rewritten: bool) -> str:
    """Describe whether the content of the connection file has changed after the launch."""
    return "its content has changed" if rewritten else "its content has not changed"


def judge_trial(failed: FailedTrial, usual_s: float) -> ProbeFinding:
    """Derive from a failed trial whether the kernel supports the wire.

    Parameters
    ----------
    failed : FailedTrial
        The trial.
    usual_s : float
        Seconds from the launch to the first answer on plain tcp.
    """
    if failed.proves(failed.key, usual_s):
        return ProbeFinding(False, failed.evidence)  # noqa: FBT003  # the value
    return ProbeFinding(None, f"the trial proves nothing: {failed.evidence}")
