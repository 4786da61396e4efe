"""Capabilities of a kernel's software: facts, each with its evidence and date.

How it works. A fact is known from one of five sources. The table that kconnd ships has facts that
were measured with certain versions. The metadata of installed packages shows what a kernel is built
on. A kernel spec declares facts. An ordinary start shows facts, and a probe tries all of them.
`combine` lets a stronger source win: a probe before the table, the table before ordinary starts,
and these before metadata and declarations, which are only likely to be right.

Facts that were learned are stored under a key (`software_key`). It covers everything that is known
of the software before a start, so facts about other versions of it are never used.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite
from typing import Any

VERSION = 1  # of the format of learned facts
MAX_KERNELS = 256  # whose facts are kept
MAX_EVIDENCE_CHARS = 200
MAX_SECONDS = 86400.0

UNIX_SOCKETS = "unix_sockets"
CURVE = "curve"
SECONDS_TO_START = "seconds_to_start"
SURVIVES_SIGINT = "survives_sigint"
EXITS_AFTER_SHUTDOWN = "exits_after_shutdown"

# Each fact with its meaning, for people. A fact of another name is ignored.
MEANINGS: Mapping[str, str] = {
    UNIX_SOCKETS: "binds the Unix sockets that its connection file names",
    CURVE: "encrypts its channels with the CURVE keys of its connection file",
    SECONDS_TO_START: "seconds from its launch to its first answer",
    SURVIVES_SIGINT: "survives SIGINT",
    EXITS_AFTER_SHUTDOWN: "exits by itself after its reply to shutdown_request",
}


class FactSource(StrEnum):
    """The source of a fact, from the weakest to the strongest."""

    DECLARED = "declared"  # by the kernel spec
    METADATA = "metadata"  # of the installed packages
    START = "start"  # an ordinary start, or what followed it
    MEASURED = "measured"  # in the table that kconnd ships
    PROBE = "probe"


_STRENGTH = tuple(FactSource)
LIKELY = frozenset({FactSource.DECLARED, FactSource.METADATA})  # sources that nobody has checked


@dataclass(frozen=True)
class Fact:
    """A fact about a kernel's software.

    Parameters
    ----------
    value : bool or float
        Whether it holds, or the number of seconds.
    source : FactSource
        How it is known.
    evidence : str
        The observation behind it, for people.
    at : float, optional
        Its date in seconds since the epoch; None for what was read just now.
    """

    value: bool | float
    source: FactSource
    evidence: str
    at: float | None = None


Capabilities = Mapping[str, Fact]


@dataclass(frozen=True)
class Software:
    """The software of a kernel, as known before its start.

    Parameters
    ----------
    key : str
        Identifies it; facts are stored under this key.
    name : str
        The name of its kernel spec, for people.
    facts : mapping
        The facts from the table, from metadata and from the kernel spec.
    """

    key: str = ""
    name: str = ""
    facts: Capabilities = field(default_factory=dict)


def software_key(spec: Iterable[object], program: str, stamps: Iterable[object]) -> str:
    """Derive the key of a kernel's software.

    Parameters
    ----------
    spec : iterable
        The content of the kernel spec, and the settings of a profile that change the command.
    program : str
        The resolved path of its program.
    stamps : iterable
        The stamps of the program and of the package folders of its environment.
    """
    content = json.dumps([list(spec), program, list(stamps)], default=str, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def combine(*facts: Capabilities) -> dict[str, Fact]:
    """Combine facts; the strongest source of each fact wins, and then the last mapping."""
    combined: dict[str, Fact] = {}
    for mapping in facts:
        for name, fact in mapping.items():
            if name not in combined or not is_stronger(combined[name], fact):
                combined[name] = fact
    return combined


def is_stronger(first: Fact, second: Fact) -> bool:
    """Return whether the source of the first fact is stronger than that of the second."""
    return _STRENGTH.index(first.source) > _STRENGTH.index(second.source)


def news_in(known: Capabilities, observed: Capabilities) -> dict[str, Fact]:
    """Return the observed facts that are worth storing: new ones, and those with another value.

    A start takes a little longer or shorter each time, so only the first time is stored, and a much
    longer one.
    """
    return {
        name: fact
        for name, fact in observed.items()
        if name not in known
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
    """Parse the plain data of facts; unknown facts and invalid ones are left out."""
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
    """The facts that were learned of a kernel's software, and the name of its kernel spec."""

    name: str
    facts: Capabilities

    @property
    def learned_at(self) -> float:
        """When its latest fact was learned, in seconds since the epoch."""
        return max((fact.at or 0.0 for fact in self.facts.values()), default=0.0)


def parse_learned(content: object) -> dict[str, LearnedSoftware]:
    """Parse the plain data of all learned facts.

    Raises
    ------
    ValueError
        If the data has another version, or is not such data.
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
    """Drop the facts that were learned longest ago where there are too many."""
    by_age = sorted(learned, key=lambda key: learned[key].learned_at, reverse=True)
    return {key: learned[key] for key in by_age[:MAX_KERNELS]}
