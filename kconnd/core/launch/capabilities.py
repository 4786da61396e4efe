"""Capabilities of a kernel's software: facts, each with its evidence and date.

How it works. A fact comes from one of five sources. kconnd ships a table of facts that were
measured with certain versions. The metadata of installed packages shows on which package a kernel
is built, such as ipykernel. A kernel spec declares facts. An ordinary start shows some facts. A
probe (``kconnd-ctl kernelspec probe``) tests all facts on a kernel of its own. If sources disagree,
`combine` chooses the strongest source. The order, from the strongest to the weakest, is: a probe,
the table, an ordinary start, metadata, declarations. Metadata and declarations are probably
correct, but this is not certain.

Learned facts are stored under the key of the software (`software_key`). The key is derived from all
data about the software that can be read without a start. A new version of the software has a new
key, so the facts about the old version are not used for the new version.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite
from typing import Any

VERSION = 1  # the version of the format of learned facts
MAX_KERNELS = 256  # the maximum of kernels with stored facts
MAX_EVIDENCE_CHARS = 200
MAX_SECONDS = 86400.0

UNIX_SOCKETS = "unix_sockets"
CURVE = "curve"
SECONDS_TO_START = "seconds_to_start"
LISTENS_AS_TOLD = "listens_as_told"
REWRITES_FILE = "rewrites_connection_file"
CONTROL_INFO = "answers_on_control"
BEATS_IDLE = "heartbeat_idle"
BEATS_BUSY = "heartbeat_busy"
SIGINT_ENDS_CELL = "sigint_ends_cell"
SURVIVES_SIGINT = "survives_sigint"
MESSAGE_ENDS_CELL = "interrupt_request_ends_cell"
INTERRUPT_REPLY = "interrupt_reply"
REPLIES_INTERRUPTED = "replies_after_interrupt"
EXITS_AFTER_SHUTDOWN = "exits_after_shutdown"

# Each fact with its meaning, as shown to users. A fact with another name is ignored.
MEANINGS: Mapping[str, str] = {
    UNIX_SOCKETS: "binds the Unix sockets that its connection file names",
    CURVE: "encrypts its channels with the CURVE keys of its connection file",
    SECONDS_TO_START: "seconds from its launch to its first answer",
    LISTENS_AS_TOLD: "listens only where its connection file says",
    REWRITES_FILE: "writes its connection file again",
    CONTROL_INFO: "answers kernel_info_request on its control channel",
    BEATS_IDLE: "answers heartbeats while it is idle",
    BEATS_BUSY: "answers heartbeats while a cell runs",
    SIGINT_ENDS_CELL: "ends the running cell after SIGINT",
    SURVIVES_SIGINT: "survives SIGINT",
    MESSAGE_ENDS_CELL: "ends the running cell after interrupt_request",
    INTERRUPT_REPLY: "replies to interrupt_request",
    REPLIES_INTERRUPTED: "replies to execute_request of a cell that an interrupt ended",
    EXITS_AFTER_SHUTDOWN: "exits by itself after its reply to shutdown_request",
}


class FactSource(StrEnum):
    """The sources of facts, ordered from the weakest to the strongest."""

    DECLARED = "declared"  # declared by the kernel spec
    METADATA = "metadata"  # the metadata of the installed packages
    START = "start"  # an ordinary start, or an observation after the start
    MEASURED = "measured"  # the table of kernel measurements
    PROBE = "probe"  # a probe of the installed kernel


_STRENGTH = tuple(FactSource)
LIKELY = frozenset({FactSource.DECLARED, FactSource.METADATA})  # sources that are not verified


@dataclass(frozen=True)
class Fact:
    """A fact about a kernel's software.

    Parameters
    ----------
    value : bool or float
        A number of seconds for `SECONDS_TO_START`; for any other fact, whether it is true.
    source : FactSource
        The source of the fact.
    evidence : str
        The observation that shows the fact, for display.
    at : float, optional
        The date of the fact in seconds since the epoch; None if the fact was read a moment ago.
    """

    value: bool | float
    source: FactSource
    evidence: str
    at: float | None = None


Capabilities = Mapping[str, Fact]
# The value of each observed fact, with the evidence.
Observations = Mapping[str, tuple[bool | float, str]]


@dataclass(frozen=True)
class Software:
    """The data about a kernel's software that is known before the kernel starts.

    Parameters
    ----------
    key : str
        The key of the software, under which its facts are stored.
    name : str
        The name of the kernel spec, for display.
    facts : mapping
        The facts from the table, from metadata and from the kernel spec.
    places : tuple of str
        The paths on which the key depends: the program, and the package folders of its environment.
    changed_at : float
        The time of the last change of the program or of a package folder, in seconds since the
        epoch.
    """

    key: str = ""
    name: str = ""
    facts: Capabilities = field(default_factory=dict)
    places: tuple[str, ...] = ()
    changed_at: float = 0.0


def software_key(spec: Iterable[object], program: str, stamps: Iterable[object]) -> str:
    """Derive the key of a kernel's software.

    Parameters
    ----------
    spec : iterable
        The content of the kernel spec, and the settings of a profile that change the command.
    program : str
        The resolved path of the kernel's program.
    stamps : iterable
        The metadata, such as the change times, of the program and of the package folders in the
        program's environment.
    """
    content = json.dumps([list(spec), program, list(stamps)], default=str, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def combine(*facts: Capabilities) -> dict[str, Fact]:
    """Merge mappings of facts.

    If several mappings contain a fact with the same name, the fact with the strongest source is
    used. Among equally strong sources, the fact of the last mapping is used.
    """
    combined: dict[str, Fact] = {}
    for mapping in facts:
        for name, fact in mapping.items():
            if name not in combined or not is_stronger(combined[name], fact):
                combined[name] = fact
    return combined


def is_stronger(first: Fact, second: Fact) -> bool:
    """Return whether the first fact has a stronger source than the second fact."""
    return _STRENGTH.index(first.source) > _STRENGTH.index(second.source)


def news_in(known: Capabilities, observed: Capabilities) -> dict[str, Fact]:
    """Return those observed facts that have to be stored.

    An observed fact is stored if no fact with the same name is known, or if a probe has observed
    it. A known fact with a stronger source is kept. Any other known fact is replaced if its value
    differs from the observed value, or if its source is metadata or a declaration. The duration of
    a start varies slightly, so a known duration is replaced only if the observed duration is more
    than twice as long.
    """
    return {
        name: fact
        for name, fact in observed.items()
        if name not in known
        or fact.source is FactSource.PROBE
        or (not is_stronger(known[name], fact) and _differs(name, known[name], fact))
    }


def _differs(name: str, known: Fact, observed: Fact) -> bool:
    if name == SECONDS_TO_START:
        return observed.value > 2 * known.value
    return known.value != observed.value or known.source in LIKELY


# --- the format of learned facts


def facts_to_json(facts: Capabilities) -> dict[str, Any]:
    """Convert facts to plain data for JSON."""
    return {
        name: {
            "value": fact.value,
            "source": fact.source.value,
            "evidence": fact.evidence,
            "at": fact.at,
        }
        for name, fact in facts.items()
    }


def parse_facts(content: object) -> dict[str, Fact]:
    """Parse the plain data of facts; facts that are unknown or invalid are omitted."""
    if not isinstance(content, dict):
        return {}
    facts = {name: _parse_fact(name, content[name]) for name in MEANINGS if name in content}
    return {name: fact for name, fact in facts.items() if fact is not None}


def _parse_fact(name: str, content: object) -> Fact | None:
    if not isinstance(content, dict):
        return None
    value, at, evidence = (content.get(field) for field in ("value", "at", "evidence"))
    valid = _is_seconds(value) if name == SECONDS_TO_START else isinstance(value, bool)
    if not valid or not (at is None or _is_number(at)) or content.get("source") not in _STRENGTH:
        return None
    text = evidence[:MAX_EVIDENCE_CHARS] if isinstance(evidence, str) else ""
    return Fact(value, FactSource(content["source"]), text, at)  # type: ignore[arg-type]  # checked above


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_seconds(value: object) -> bool:
    return _is_number(value) and 0 <= value <= MAX_SECONDS  # type: ignore[operator]  # a number


def learned_to_json(learned: Mapping[str, "LearnedSoftware"]) -> dict[str, Any]:
    """Convert all learned facts to plain data for JSON."""
    kernels = {
        key: {"name": software.name, "facts": facts_to_json(software.facts)}
        for key, software in learned.items()
    }
    return {"version": VERSION, "kernels": kernels}


@dataclass(frozen=True)
class LearnedSoftware:
    """The facts that were learned about a kernel's software, and the name of its kernel spec."""

    name: str
    facts: Capabilities

    @property
    def learned_at(self) -> float:
        """The date of the latest learned fact, in seconds since the epoch."""
        return max((fact.at or 0.0 for fact in self.facts.values()), default=0.0)


def parse_learned(content: object) -> dict[str, LearnedSoftware]:
    """Parse the plain data of all learned facts.

    Raises
    ------
    ValueError
        If the data has another version or is malformed.
    """
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise ValueError("it is not a file of learned capabilities, or of a newer version")
    kernels = content.get("kernels")
    if not isinstance(kernels, dict):
        raise ValueError("it has no kernels")  # noqa: TRY004  # one error for all damage
    return {
        str(key): LearnedSoftware(str(kernel.get("name", "")), parse_facts(kernel.get("facts")))
        for key, kernel in kernels.items()
        if isinstance(kernel, dict)
    }


def keep_latest(learned: Mapping[str, LearnedSoftware]) -> dict[str, LearnedSoftware]:
    """Return the learned facts of the `MAX_KERNELS` kernels whose facts are the latest."""
    by_age = sorted(learned, key=lambda key: learned[key].learned_at, reverse=True)
    return {key: learned[key] for key in by_age[:MAX_KERNELS]}
