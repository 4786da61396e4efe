"""YAML as plain values, with the line and column of each.

Rules: only YAML's own scalars, lists and mappings, and keys are text as it was written (``no``
is a fine name for a variable); a key given twice is told, not silently the last one; size,
depth and the number of values are bounded while reading, since aliases and merges can make a
few lines into millions of values. Lines and columns count from 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import yaml

from kconnd.core.profile.problems import Path, show

_MOST_VALUES: Final = 10_000
_DEEPEST: Final = 30
# Python refuses to print much longer ones, so they could not even be shown in a fault.
_LONGEST_NUMBER: Final = 100
_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = f"{_TAG}merge"
_NUMBERS: Final = frozenset(f"{_TAG}{kind}" for kind in ("bool", "int", "float"))
_KNOWN_TAGS: Final = _NUMBERS | {
    f"{_TAG}{kind}" for kind in ("null", "str", "timestamp", "value", "merge", "map", "seq")
}


@dataclass(frozen=True)
class Place:
    """Where a key and its value begin, and the value as written (``""`` if it is no scalar)."""

    line: int
    column: int
    key_line: int
    key_column: int
    text: str = ""


@dataclass(frozen=True)
class Mishap:
    """Something wrong in a document that can otherwise be read."""

    line: int
    column: int
    path: Path
    message: str
    hint: str


@dataclass
class Document:
    """A document's values, the place of each by its path, and what is wrong with it."""

    data: object = None
    places: dict[Path, Place] = field(default_factory=dict)
    mishaps: list[Mishap] = field(default_factory=list)

    def place(self, path: Path) -> Place:
        """Find the place of a value, or of the nearest one around it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Place(1, 1, 1, 1))


class NotYamlError(ValueError):
    """The text cannot be read as one bounded YAML document; line and column count from 1."""

    def __init__(self, message: str, line: int = 1, column: int = 1, hint: str = "") -> None:
        super().__init__(message)
        self.line = line
        self.column = column
        self.hint = hint


def read_yaml(content: bytes) -> Document:
    """Read one YAML document.

    Parameters
    ----------
    content : bytes
        UTF-8, with or without a byte order mark.

    Raises
    ------
    NotYamlError
        If it is not UTF-8, not YAML, more than one document, or too deep or large when its
        aliases are followed.
    """
    text = _decoded(content)
    try:
        node = _compose(text)
    except yaml.MarkedYAMLError as err:
        raise _explained(err) from err
    except yaml.reader.ReaderError as err:
        message = f"character U+{ord(text[err.position]):04X} is not allowed in YAML"
        raise NotYamlError(message, *_position(text[: err.position])) from err
    document = Document()
    if node is not None:
        document.data = _Builder(document).build(node, (), _place(node, node), 0)
    return document


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        before = content[: err.start].decode("utf-8", "replace")
        message = f"byte 0x{content[err.start]:02x} is not UTF-8"
        raise NotYamlError(message, *_position(before), hint="save the file as UTF-8") from err


def _position(before: str) -> tuple[int, int]:
    """Give line and column of what follows a text."""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


class _Loader(yaml.SafeLoader):
    """PyYAML's own, which counts, so that a hostile file ends early.

    It is the Python one: libyaml's recursion cannot be bounded from here.
    """

    nodes = depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.nodes += 1
        self.depth += 1
        _check_bounds(self.nodes, self.depth, _next_mark(self))
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _next_mark(loader: _Loader) -> yaml.Mark:
    mark: yaml.Mark = loader.peek_event().start_mark  # type: ignore[no-untyped-call]  # no stub
    return mark


def _check_bounds(values: int, depth: int, mark: yaml.Mark) -> None:
    if values > _MOST_VALUES:
        message = f"more than {_MOST_VALUES} values, aliases followed"
        raise NotYamlError(message, mark.line + 1, mark.column + 1, "split it into several files")
    if depth > _DEEPEST:
        message = f"nested more than {_DEEPEST} deep"
        raise NotYamlError(message, mark.line + 1, mark.column + 1)


def _compose(text: str) -> yaml.Node | None:
    """Read the only document of a text; None if it is empty."""
    loader = _Loader(text)
    try:
        node = loader.get_node() if loader.check_node() else None
        if loader.check_node():
            mark = _next_mark(loader)
            hint = "put several kernels under kernels:, or into a file each"
            raise NotYamlError("a second document begins", mark.line + 1, mark.column + 1, hint)
    finally:
        loader.dispose()
    return node


def _explained(err: yaml.MarkedYAMLError) -> NotYamlError:
    mark = err.problem_mark or err.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    context = f"{err.context}, " if err.context else ""
    hint = "indent with spaces, not tabs" if "'\\t'" in str(err.problem) else ""
    return NotYamlError(f"not YAML: {context}{err.problem}", line, column, hint)


def _place(key: yaml.Node, node: yaml.Node) -> Place:
    begin, value = key.start_mark, node.start_mark
    text = node.value if isinstance(node, yaml.ScalarNode) else ""
    return Place(value.line + 1, value.column + 1, begin.line + 1, begin.column + 1, text)


@dataclass
class _Builder:
    """Makes plain values of nodes and notes the place of each in a document."""

    document: Document
    values: int = 0

    def build(self, node: yaml.Node, path: Path, place: Place, depth: int) -> object:
        """Make the value of a node, noting it and what is below it."""
        self.values += 1
        _check_bounds(self.values, depth, node.start_mark)
        self.document.places[path] = place
        if node.tag not in _KNOWN_TAGS:
            self._mishap(node, path, f"the tag {show(node.tag)} means nothing here")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        return [
            self.build(item, (*path, index), _place(item, item), depth + 1)
            for index, item in enumerate(node.value)
        ]

    def _mapping(self, node: yaml.MappingNode, path: Path, depth: int) -> dict[str, object]:
        """Build what is merged in first, so that the mapping's own keys win."""
        data: dict[str, object] = {}
        for merged in self._merged(node, path):
            self.values += 1
            _check_bounds(self.values, depth + 1, merged.start_mark)
            data.update(self._mapping(merged, path, depth + 1))
        own: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                continue
            if not isinstance(key, yaml.ScalarNode) or not _is_text(key):
                self._mishap(key, path, "a key has to be text")
            elif key.value in own:
                first = own[key.value].start_mark
                where = f"line {first.line + 1}, column {first.column + 1}"
                self._mishap(key, (*path, key.value), f"is given twice, first at {where}")
            else:
                own[key.value] = key
                inner = (*path, key.value)
                data[key.value] = self.build(value, inner, _place(key, value), depth + 1)
        return data

    def _merged(self, node: yaml.MappingNode, path: Path) -> Iterator[yaml.MappingNode]:
        """List the mappings merged in by ``<<``, the one that wins last."""
        for key, value in node.value:
            if key.tag != _MERGE:
                continue
            sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for source in reversed(sources):
                if isinstance(source, yaml.MappingNode):
                    yield source
                else:
                    self._mishap(source, path, "<< takes mappings")

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> object:
        """Read a scalar as YAML 1.1 does, but for dates and ``1:30``, which stay text."""
        if not _is_text(node):
            self._mishap(node, path, "holds a character that is not text")
            return ""
        if node.tag == f"{_TAG}null":
            return None
        odd = ":" in node.value or len(node.value) > _LONGEST_NUMBER
        return _number(node) if node.tag in _NUMBERS and not odd else node.value

    def _mishap(self, node: yaml.Node, path: Path, message: str, hint: str = "") -> None:
        mark = node.start_mark
        self.document.mishaps.append(Mishap(mark.line + 1, mark.column + 1, path, message, hint))


def _is_text(node: yaml.Node) -> bool:
    """Tell whether a scalar can be written as UTF-8: YAML's escapes allow half characters."""
    try:
        node.value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _number(node: yaml.ScalarNode) -> object:
    """Read a truth value or number; what only looks like one is text."""
    maker = yaml.constructor.SafeConstructor()
    makers = {
        f"{_TAG}bool": maker.construct_yaml_bool,
        f"{_TAG}int": maker.construct_yaml_int,
        f"{_TAG}float": maker.construct_yaml_float,
    }
    try:
        return makers[node.tag](node)
    except (ValueError, KeyError, IndexError, OverflowError):
        return node.value
