"""YAML with places: plain data, and the line and column of each key and value in it.

PyYAML's SafeLoader does the reading; its nodes carry marks, which its data does not. Beyond
what it refuses, a key that stands twice is a fault here, since one of the two would silently
win. Documents that unfold into more than `MAX_NODES` values are refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_NODES = 10_000
MAX_DEPTH = 20
MERGE = "tag:yaml.org,2002:merge"

Path = tuple[Any, ...]
Spot = tuple[int, int]  # line and column, from 1


class YamlFault(Exception):  # noqa: N818  # it is collected as often as it is raised
    """Something wrong with a document, and where."""

    def __init__(self, message: str, spot: Spot, path: Path = (), hint: str = "") -> None:
        super().__init__(message)
        self.line, self.column = spot
        self.path = path
        self.hint = hint


@dataclass
class Document:
    """What was read."""

    content: Any = None
    places: dict[Path, Spot] = field(default_factory=dict)
    key_places: dict[Path, Spot] = field(default_factory=dict)
    faults: list[YamlFault] = field(default_factory=list)


def parse_yaml(text: str) -> Document:
    """Read one document.

    Raises
    ------
    YamlFault
        If it is not YAML, or unfolds into too much.
    """
    try:
        return _parse(yaml.SafeLoader(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        spot = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = " ".join(filter(None, (error.context, error.problem)))
        raise YamlFault(f"not YAML: {problem}", spot, hint=_guess(text, spot)) from None
    except yaml.YAMLError as error:
        raise YamlFault(f"not YAML: {' '.join(str(error).split())}", (1, 1)) from None
    except RecursionError:
        raise YamlFault("it is nested too deeply", (1, 1)) from None


def _parse(loader: yaml.SafeLoader) -> Document:
    document = Document()
    try:
        root = loader.get_single_node()
        if root is not None:
            document.content = _Builder(loader, document).build(root, ())
    finally:
        loader.dispose()
    return document


def _guess(text: str, spot: Spot) -> str:
    lines = text.splitlines()
    line = lines[min(spot[0], len(lines)) - 1] if lines else ""
    if "\t" in line:
        return "indent with spaces: YAML allows no tabs there"
    if line.count(": ") > 1:
        return "put a value that has ': ' in it in quotes"
    return "check the indentation, quotes and brackets of this line and the one before"


class _Builder:
    """Turns nodes into data, and notes where each stood."""

    def __init__(self, loader: yaml.SafeLoader, document: Document) -> None:
        self._loader, self._document = loader, document
        self._count = 0

    def build(self, node: yaml.Node, path: Path) -> Any:
        self._count += 1
        spot = _spot(node)
        if self._count > MAX_NODES or len(path) > MAX_DEPTH:
            raise YamlFault("it unfolds into too many values", spot, path)
        self._document.places.setdefault(path, spot)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, (*path, i)) for i, child in enumerate(node.value)]
        return self._loader.construct_object(node, deep=True)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[Any, Any]:
        self._note_doubles(node, path)
        self._loader.flatten_mapping(node)
        found = {}
        for key_node, value_node in node.value:
            key = self._loader.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                hint = f"put it in quotes: '{key_node.value}'"
                fault = YamlFault(f"the key {key!r} is not text", _spot(key_node), path, hint)
                self._document.faults.append(fault)
                continue
            self._document.key_places[*path, key] = _spot(key_node)
            found[key] = self.build(value_node, (*path, key))
        return found

    def _note_doubles(self, node: yaml.MappingNode, path: Path) -> None:
        seen: dict[str, yaml.Node] = {}
        for key in _plain_keys(node):
            if key.value in seen:
                first = _spot(seen[key.value])
                message = f"{key.value!r} stands here again; it was at {first[0]}:{first[1]}"
                where = (*path, key.value)
                fault = YamlFault(message, _spot(key), where, "remove one of the two")
                self._document.faults.append(fault)
            seen.setdefault(key.value, key)


def _plain_keys(node: yaml.MappingNode) -> Iterator[yaml.ScalarNode]:
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
            yield key


def _spot(node: yaml.Node) -> Spot:
    return node.start_mark.line + 1, node.start_mark.column + 1
