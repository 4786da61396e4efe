"""Reads the text of profile files again, to show the line and the key of a fault.

The loader keeps no text and no positions, because a daemon would hold them for as long as it runs.
A file is read as by the loader: a file that another user can write is not read. A file that was
changed since the loader read it gives other lines; the next check shows its faults then.
"""

import os
import re
from collections.abc import Iterator
from functools import cache

from kconnd.core.profile.problems import KeyPath, Problem
from kconnd.errors import UnsafePathError
from kconnd.system.files.trusted import open_unblocked, read_trusted
from kconnd.system.hung_calls import BeginStep
from kconnd.system.profiles.faults import Fault, fault_at
from kconnd.system.profiles.loader import SourcedProfile
from kconnd.system.profiles.yaml_with_positions import Document, NotYamlError, read_yaml

_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # as in YAML 1.1


class SourceText:
    """The lines and positions of profile files; each file is read once.

    Parameters
    ----------
    begin : callable
        Called with a description of each step when the step begins.
    """

    def __init__(self, begin: BeginStep) -> None:
        self._begin = begin
        self._read = cache(self._read_file)
        self._parse = cache(read_yaml)

    def line(self, file: str, number: int) -> str:
        """Return a line of a file, counted from 1; ``""`` if it cannot be read."""
        content = self._read(file)
        if content is None:
            return ""
        lines = _LINE_END.split(content.decode("utf-8-sig", "replace"))
        return lines[number - 1] if number <= len(lines) else ""

    def fault(self, sourced: SourcedProfile, problem: Problem) -> Fault:
        """Return a problem of a loaded profile as a fault at the line of its key."""
        name, content = sourced.profile.name, self._read(sourced.file)
        unplaced = Fault(sourced.file, sourced.line, 1, "", problem.message, problem.hint, name)
        if content is None:
            return unplaced
        try:
            document = self._parse(content)
        except NotYamlError:
            return unplaced
        path = (*_entry_of(document, name), *problem.path)
        placed = Problem(path, problem.message, problem.hint)
        return fault_at(document, sourced.file, placed, name)

    def values(self, sourced: SourcedProfile) -> Iterator[tuple[KeyPath, str, object]]:
        """Yield the path below the profile, the text and the value of each scalar of a profile."""
        content = self._read(sourced.file)
        try:
            document = self._parse(content or b"")
        except NotYamlError:
            return
        entry = _entry_of(document, sourced.profile.name)
        for path, position in document.positions.items():
            if path[: len(entry)] == entry and position.text:
                yield path[len(entry) :], position.text, _value_at(document.data, path)

    def _read_file(self, file: str) -> bytes | None:
        self._begin(f"reading {file}")
        try:
            with open_unblocked(file, 0) as descriptor:
                return read_trusted(descriptor, os.geteuid())
        except (OSError, UnsafePathError):
            return None


def _entry_of(document: Document, name: str) -> KeyPath:
    """Return the path of a profile in its document: ``()`` for the whole document."""
    entry = ("kernels", name)
    return entry if entry in document.positions else ()


def _value_at(data: object, path: KeyPath) -> object:
    for key in path:
        if isinstance(data, dict):
            data = data.get(key)
        elif isinstance(data, list) and isinstance(key, int):
            data = data[key]
    return data
