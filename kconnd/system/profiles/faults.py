"""A fault in a file: its position, its key, and the text to write instead."""

from dataclasses import dataclass

from kconnd.core.profile.problems import Problem, format_path
from kconnd.system.profiles.yaml_with_positions import Document


@dataclass(frozen=True, order=True)
class Fault:
    """A fault in a file; as text it is ``lab.yaml:7:12: restart.policy: …``.

    Parameters
    ----------
    file : str
        The path of the file, as the caller passed it.
    line, column : int
        The position, counted from 1. Line and column are 1 for a fault of the whole file.
    path : str
        The key, such as ``restart.policy``; ``""`` for a fault without a key.
    message, hint : str
        A description of the fault, and the text to write instead; the hint can be ``""``.
    profile : str
        The name of the profile that is excluded because of the fault; ``""`` for a fault of the
        whole file. By this name, a reload distinguishes a faulty profile from a removed profile.
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
    """Convert a problem to a fault with the position of the key or value."""
    position = document.position(problem.path)
    line, column = position.line, position.column
    if problem.on_key and problem.path in document.positions:
        line, column = position.key_line, position.key_column
    key = format_path(problem.path)
    return Fault(file, line, column, key, problem.message, problem.hint, profile)
