"""The table of kernel measurements, and the choice of the rows for a kernel.

A row contains the facts that were measured about a kernel, the measured versions and the date. The
command of a kernel determines its rows: by the Python module that the command runs, by the program,
or by a text in the arguments. The version of a kernel is the version of the kernel's package. If
the version cannot be read, the table gives only the facts on which all rows of the kernel agree. If
no row covers the version, the table gives no facts.

The requirements of packages give further facts. A kernel whose package requires ipykernel or
metakernel is built on ipykernel. ipykernel binds the sockets of such a kernel, so the facts about
connections and shutdown that were measured with ipykernel also apply to this kernel.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kconnd.core.launch.capabilities import (
    CURVE,
    EXITS_AFTER_SHUTDOWN,
    MEANINGS,
    UNIX_SOCKETS,
    Fact,
    FactSource,
)
from kconnd.core.launch.kernelspec_file import python_module

BASES = ("ipykernel", "metakernel")  # base packages of kernels
BASE = "ipykernel"  # binds the sockets of all kernels with a base package
# Facts that also apply to kernels that are built on ipykernel.
INHERITED = (UNIX_SOCKETS, CURVE, EXITS_AFTER_SHUTDOWN)
_CONDITION = re.compile(r"(>=|<)(\d+(?:\.\d+)*)")
_SEPARATORS = re.compile(r"[-_.]+")


@dataclass(frozen=True)
class MeasuredKernel:
    """A row of the table.

    Parameters
    ----------
    package : str
        The name of the kernel's package; its version is the version of the kernel.
    modules, programs, arguments : tuple of str
        The patterns of the kernel's command: Python modules, names of programs, and parts of an
        argument.
    versions : str
        The versions that the row covers, such as ``>=6.17,<7.3``.
    measured : tuple of str
        The versions with which the facts were measured.
    at : float
        The date of the measurement, in seconds since the epoch.
    facts : mapping
        The measured facts.
    """

    package: str
    modules: tuple[str, ...]
    programs: tuple[str, ...]
    arguments: tuple[str, ...]
    versions: str
    measured: tuple[str, ...]
    at: float
    facts: Mapping[str, bool] = field(default_factory=dict)

    def holds_for(self, version: str) -> bool:
        """Return whether the row covers a version."""
        number = parse_version(version)
        for operator, bound in _CONDITION.findall(self.versions):
            is_before = number < parse_version(bound)
            if is_before is (operator == ">="):
                return False
        return True

    def matches(self, argv: tuple[str, ...]) -> bool:
        """Return whether a command runs the kernel of the row."""
        command = python_module(argv)
        if command is not None:
            return command.module in self.modules
        program = argv[0].rpartition("/")[2]
        return program in self.programs or any(
            text in argument for text in self.arguments for argument in argv[1:]
        )


def parse_table(content: Mapping[str, Any]) -> tuple[MeasuredKernel, ...]:
    """Parse the table.

    Raises
    ------
    ValueError, KeyError, TypeError
        If the table is damaged.
    """
    return tuple(_parse_row(row) for row in content["kernels"])


def _parse_row(row: Mapping[str, Any]) -> MeasuredKernel:
    if unknown := row["facts"].keys() - MEANINGS.keys():
        raise ValueError(f"{row['package']}: unknown facts: {', '.join(sorted(unknown))}")
    return MeasuredKernel(
        package=row["package"],
        modules=tuple(row.get("modules", ())),
        programs=tuple(row.get("programs", ())),
        arguments=tuple(row.get("arguments", ())),
        versions=row["versions"],
        measured=tuple(row["measured"]),
        at=datetime.fromisoformat(row["date"]).replace(tzinfo=UTC).timestamp(),
        facts=dict(row["facts"]),
    )


def parse_version(text: str) -> tuple[int, ...]:
    """Parse the leading numbers of a version: ``7.4.0rc1`` is (7, 4, 0)."""
    numbers = []
    for part in text.split("."):
        match = re.match(r"\d+", part)
        if match is None:
            break
        numbers.append(int(match[0]))
        if match[0] != part:
            break
    return tuple(numbers)


def normalize(package: str) -> str:
    """Return the normalized form of a package's name, which is the same for all spellings."""
    return _SEPARATORS.sub("-", package).lower()


def find_rows(table: Iterable[MeasuredKernel], argv: tuple[str, ...]) -> list[MeasuredKernel]:
    """Return the rows of the kernel that a command runs."""
    return [row for row in table if row.matches(argv)]


def measured_facts(rows: Iterable[MeasuredKernel], version: str) -> dict[str, Fact]:
    """Return the measured facts about a version of a kernel.

    Parameters
    ----------
    rows : iterable of MeasuredKernel
        All rows about the kernel.
    version : str
        The version of the kernel; ``""`` if unknown.
    """
    rows = list(rows)
    if version:
        rows = [row for row in rows if row.holds_for(version)]
    facts: dict[str, Fact] = {}
    for name in MEANINGS:
        values = {row.facts.get(name) for row in rows}
        if len(values) == 1 and (value := values.pop()) is not None:
            facts[name] = Fact(value, FactSource.MEASURED, _evidence(rows), rows[0].at)
    return facts


def _evidence(rows: list[MeasuredKernel]) -> str:
    versions = ", ".join(version for row in rows for version in row.measured)
    return f"measured with {rows[0].package} {versions}"


def inherited_facts(
    table: Iterable[MeasuredKernel],
    package: str,
    requires: Iterable[str],
    versions: Mapping[str, str],
) -> dict[str, Fact]:
    """Return the facts that a kernel inherits because it is built on ipykernel or metakernel.

    Parameters
    ----------
    table : iterable of MeasuredKernel
        The table.
    package : str
        The package of the kernel.
    requires : iterable of str
        The packages that the kernel's package requires.
    versions : mapping
        The version of each installed package.
    """
    names = [package, *requires]
    base = next((name for name in BASES if name in map(normalize, names)), None)
    if base is None:
        return {}
    version = versions.get(BASE, "")
    evidence = f"the package {package} requires {base}" if base != normalize(package) else package
    likely = {UNIX_SOCKETS: Fact(True, FactSource.METADATA, evidence)}  # noqa: FBT003  # the value
    if not version:
        return likely
    evidence = f"{evidence}; {BASE} {version} is installed"
    rows = [row for row in table if row.package == BASE]
    measured = measured_facts(rows, version)
    return likely | {
        name: Fact(measured[name].value, FactSource.METADATA, evidence)
        for name in INHERITED
        if name in measured
    }
