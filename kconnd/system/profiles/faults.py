"""A fault in a file: its position, the key, and what to write instead."""

from dataclasses import dataclass

from kconnd.core.profile.problems import Problem, format_path
from kconnd.system.profiles.yaml_with_positions import Document


@dataclass(frozen=True, order=True)
class Fault:
    """A fault in a file; as text it is ``lab.yaml:7:12: restart.policy: …``.

    Parameters
    ----------
    file : str
        The path, as the caller gave it.
    line, column : int
        The position, from 1. Both are 1 for a fault of the whole file.
    path : str
        The key, such as ``restart.policy``, or ``""``.
    message, hint : str
        What is wrong, and what to write instead (or ``""``).
    profile : str
        The name of the profile that is excluded because of the fault, so that a reload can
        distinguish a faulty profile from a removed one; ``""`` for a fault of the whole file.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str = ""
    profile: str = ""

    def __str__(self) -> str:
        key = f"{self.path}: " if self.path else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{self.file}:{self.line}:{self.column}: {key}{self.message}{hint}"


def fault_at(document: Document, file: str, problem: Problem, profile: str = "") -> Fault:
    """Turn a problem into a fault with the position of its key or value."""
    position = document.position(problem.path)
    line, column = position.line, position.column
    if problem.on_key and problem.path in document.positions:
        line, column = position.key_line, position.key_column
    key = format_path(problem.path)
    return Fault(file, line, column, key, problem.message, problem.hint, profile)
