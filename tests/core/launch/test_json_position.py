"""Positions of values in JSON texts, compared with where the text was written."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.launch.json_position import KeyPath, find_position

SPEC = '{"argv": ["x",\n\t"y"],\r\n "env":\n  {"A" : "1",\n   "B":null}, "env2": {}}\n'

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
TREES = st.recursive(
    LEAVES, lambda trees: st.lists(trees) | st.dictionaries(st.text(), trees), max_leaves=10
)
INDENTS = st.none() | st.integers(0, 3) | st.just("\t")


@pytest.mark.parametrize(
    ("path", "position"),
    [
        ((), (1, 1)),
        (("argv",), (1, 10)),
        (("argv", 1), (2, 2)),
        (("env", "A"), (4, 10)),
        (("env", "B"), (5, 8)),
        (("env", "missing"), (4, 3)),
        (("missing",), (1, 1)),
        (("env", "A", "below a leaf"), (4, 10)),
        (("argv", 7), (1, 10)),
        (("env2", 0), (5, 23)),
    ],
)
def test_a_value_has_line_and_column(path: KeyPath, position: tuple[int, int]) -> None:
    assert find_position(SPEC, path) == position


def test_the_last_of_two_equal_keys_counts() -> None:
    text = '{"a": 1,\n"a": 2}'
    assert json.loads(text) == {"a": 2}
    assert find_position(text, ("a",)) == (2, 6)


def paths_of(tree: Any) -> list[KeyPath]:
    """List the paths of all values in a tree."""
    items: list[tuple[Any, Any]] = []
    if isinstance(tree, dict):
        items = list(tree.items())
    elif isinstance(tree, list):
        items = list(enumerate(tree))
    return [(), *((key, *path) for key, value in items for path in paths_of(value))]


@given(TREES, INDENTS, st.data())
def test_the_text_at_a_position_is_the_value(tree: Any, indent: Any, data: st.DataObject) -> None:
    text = json.dumps(tree, indent=indent)
    path = data.draw(st.sampled_from(paths_of(tree)))
    line, column = find_position(text, path)
    lines = text.split("\n")
    at = sum(len(before) + 1 for before in lines[: line - 1]) + column - 1
    for step in path:
        tree = tree[step]
    value, _ = json.JSONDecoder().raw_decode(text, at)
    assert value == tree
