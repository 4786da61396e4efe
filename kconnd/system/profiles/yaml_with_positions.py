"""Parse YAML into plain values, with the line and column of each value.

Rules. Only YAML's standard scalars, lists and mappings are allowed. A key is the text as written,
so ``no`` is a valid name for an environment variable. A duplicate key is reported as an error.
Aliases and merge keys can expand a few lines to millions of values, so the nesting depth and the
number of values are limited while reading. Lines and columns count from 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import yaml

from kconnd.core.profile.problems import KeyPath, format_value

_MAX_VALUES: Final = 10_000
_MAX_DEPTH: Final = 30
# Python refuses to print much longer numbers, so an error message could not show such a number.
_MAX_NUMBER_DIGITS: Final = 100
_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = f"{_TAG}merge"
_NUMBERS: Final = frozenset(f"{_TAG}{kind}" for kind in ("bool", "int", "float"))
_KNOWN_TAGS: Final = _NUMBERS | {
    f"{_TAG}{kind}" for kind in ("null", "str", "timestamp", "value", "merge", "map", "seq")
}


@dataclass(frozen=True)
class SourcePosition:
    """The positions of a key and its value, and the text of a scalar value."""

    line: int
    column: int
    key_line: int
    key_column: int
    text: str = ""


@dataclass(frozen=True)
class Mishap:
    """An error at one place of a document; the rest of the document can be read."""

    line: int
    column: int
    path: KeyPath
    message: str
    hint: str


@dataclass
class Document:
    """The values of a document, the position of each value by its path, and the errors."""

    data: object = None
    positions: dict[KeyPath, SourcePosition] = field(default_factory=dict)
    mishaps: list[Mishap] = field(default_factory=list)

    def position(self, path: KeyPath) -> SourcePosition:
        """Return the position of a value, or of the nearest enclosing value."""
        while path and path not in self.positions:
            path = path[:-1]
        return self.positions.get(path, SourcePosition(1, 1, 1, 1))


class NotYamlError(ValueError):
    """The text is not one YAML document within the limits; line and column count from 1."""

    def __init__(self, message: str, line: int = 1, column: int = 1, hint: str = "") -> None:
        super().__init__(message)
        self.line = line
        self.column = column
        self.hint = hint


def read_yaml(content: bytes) -> Document:
    """Parse one YAML document.

    Parameters
    ----------
    content : bytes
        UTF-8, with or without a byte order mark.

    Raises
    ------
    NotYamlError
        If the content is not UTF-8, is not YAML, or has more than one document; or if the document
        is nested too deeply or, with its aliases expanded, is too large.
    """
    text = _decode(content)
    try:
        node = _compose(text)
    except yaml.MarkedYAMLError as err:
        raise _syntax_error(err) from err
    except yaml.reader.ReaderError as err:
        message = f"character U+{ord(text[err.position]):04X} is not allowed in YAML"
        raise NotYamlError(message, *_end_position(text[: err.position])) from err
    document = Document()
    if node is not None:
        document.data = _Builder(document).build(node, (), _position(node, node), 0)
    return document


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        before = content[: err.start].decode("utf-8", "replace")
        message = f"byte 0x{content[err.start]:02x} is not UTF-8"
        raise NotYamlError(message, *_end_position(before), hint="save the file as UTF-8") from err


def _end_position(text: str) -> tuple[int, int]:
    """Return the line and column of the character after a text."""
    return text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1


class _Loader(yaml.SafeLoader):
    """PyYAML's loader with limits, by which a malicious file is rejected early.

    This class derives from the loader in pure Python, because the recursion of libyaml cannot be
    limited.
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
    if values > _MAX_VALUES:
        message = f"more than {_MAX_VALUES} values, aliases followed"
        raise NotYamlError(message, mark.line + 1, mark.column + 1, "split it into several files")
    if depth > _MAX_DEPTH:
        message = f"nested more than {_MAX_DEPTH} deep"
        raise NotYamlError(message, mark.line + 1, mark.column + 1)


def _compose(text: str) -> yaml.Node | None:
    """Parse the only document of a text; None if the text is empty."""
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


def _syntax_error(err: yaml.MarkedYAMLError) -> NotYamlError:
    mark = err.problem_mark or err.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    context = f"{err.context}, " if err.context else ""
    hint = "indent with spaces, not tabs" if "'\\t'" in str(err.problem) else ""
    return NotYamlError(f"not YAML: {context}{err.problem}", line, column, hint)


def _position(key: yaml.Node, node: yaml.Node) -> SourcePosition:
    key_mark, value_mark = key.start_mark, node.start_mark
    text = node.value if isinstance(node, yaml.ScalarNode) else ""
    return SourcePosition(
        value_mark.line + 1,
        value_mark.column + 1,
        key_mark.line + 1,
        key_mark.column + 1,
        text,
    )


@dataclass
class _Builder:
    """Builds plain values from nodes, and records the position of each value."""

    document: Document
    values: int = 0

    def build(self, node: yaml.Node, path: KeyPath, position: SourcePosition, depth: int) -> object:
        """Build the value of a node and the values below it."""
        self.values += 1
        _check_bounds(self.values, depth, node.start_mark)
        self.document.positions[path] = position
        if node.tag not in _KNOWN_TAGS:
            self._add_mishap(node, path, f"the tag {format_value(node.tag)} means nothing here")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        return [
            self.build(item, (*path, index), _position(item, item), depth + 1)
            for index, item in enumerate(node.value)
        ]

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, depth: int) -> dict[str, object]:
        """Build a mapping.

        Merged mappings are built first, so that the mapping's own keys override merged keys.
        """
        data: dict[str, object] = {}
        for merged in self._merged_mappings(node, path):
            self.values += 1
            _check_bounds(self.values, depth + 1, merged.start_mark)
            data.update(self._mapping(merged, path, depth + 1))
        own: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                continue
            if not isinstance(key, yaml.ScalarNode) or not _is_encodable(key):
                self._add_mishap(key, path, "a key has to be text")
            elif key.value in own:
                first = own[key.value].start_mark
                where = f"line {first.line + 1}, column {first.column + 1}"
                self._add_mishap(key, (*path, key.value), f"is given twice, first at {where}")
            else:
                own[key.value] = key
                inner = (*path, key.value)
                data[key.value] = self.build(value, inner, _position(key, value), depth + 1)
        return data

    def _merged_mappings(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[yaml.MappingNode]:
        """Yield the mappings that ``<<`` merges; each overrides the mappings yielded before it."""
        for key, value in node.value:
            if key.tag != _MERGE:
                continue
            sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for source in reversed(sources):
                if isinstance(source, yaml.MappingNode):
                    yield source
                else:
                    self._add_mishap(source, path, "<< takes mappings")

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> object:
        """Convert a scalar by YAML 1.1, except that dates and values like ``1:30`` stay text."""
        if not _is_encodable(node):
            self._add_mishap(node, path, "holds a character that is not text")
            return ""
        if node.tag == f"{_TAG}null":
            return None
        is_text = ":" in node.value or len(node.value) > _MAX_NUMBER_DIGITS
        return _number(node) if node.tag in _NUMBERS and not is_text else node.value

    def _add_mishap(self, node: yaml.Node, path: KeyPath, message: str, hint: str = "") -> None:
        mark = node.start_mark
        self.document.mishaps.append(Mishap(mark.line + 1, mark.column + 1, path, message, hint))


def _is_encodable(node: yaml.Node) -> bool:
    """Check whether a scalar can be encoded as UTF-8; YAML's escapes allow lone surrogates."""
    try:
        node.value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _number(node: yaml.ScalarNode) -> object:
    """Convert a boolean or a number; an invalid number stays text."""
    constructor = yaml.constructor.SafeConstructor()
    converters = {
        f"{_TAG}bool": constructor.construct_yaml_bool,
        f"{_TAG}int": constructor.construct_yaml_int,
        f"{_TAG}float": constructor.construct_yaml_float,
    }
    try:
        return converters[node.tag](node)
    except (ValueError, KeyError, IndexError, OverflowError):
        return node.value
