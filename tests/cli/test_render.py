"""How things look: spans, sizes, tables, colours."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.cli import render
from kconnd.core.kernel.view import iso_time

CELL = st.text(st.characters(categories=["L", "N"]), max_size=12)


def test_spans_and_sizes() -> None:
    assert [render.span(n) for n in (-1, 0, 59.9, 60, 3599, 3600, 86400, 700000)] == [
        *("0s", "0s", "59s", "1min", "59min", "1h", "1d", "1w"),
    ]
    sizes = (None, 0, 999, 1000, 1024, 48 << 20, 1 << 30, 5 << 40)
    assert [render.size(n) for n in sizes] == ["-", "0", "999", "0.977K", "1K", "48M", "1G", "5T"]


@given(st.integers(0, 4_000_000_000_000))
def test_a_time_of_a_reply_is_read_back(milliseconds: int) -> None:
    at = milliseconds / 1000
    seconds = render.seconds_since(iso_time(at), at)
    assert seconds is not None
    assert abs(seconds) < 0.002
    assert render.ago(None, at) == "-"


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01T00:00:00Z", None, 7])
def test_a_time_that_is_none_is_unknown(text: Any) -> None:
    assert render.seconds_since(text, 0) is None


@given(st.lists(st.tuples(CELL, CELL, CELL), max_size=5))
def test_columns_stand_below_their_heads(rows: list[tuple[str, str, str]]) -> None:
    lines = render.table(("A", "B", "C"), rows, frozenset({1}))
    assert len(lines) == len(rows) + 1
    width = max(len(row[0]) for row in [("A",), *rows])
    for line, row in zip(lines[1:], rows, strict=True):
        assert line[:width].rstrip() == row[0]
        assert line == line.rstrip()


def test_pairs() -> None:
    assert render.pairs([("a", "1\n2"), ("long", "")]) == ["   a  1", "      2", "long"]


def test_colour_is_for_terminals_whose_user_wants_it() -> None:
    assert render.use_colours({}, is_terminal=True)
    assert not render.use_colours({}, is_terminal=False)
    assert not render.use_colours({"NO_COLOR": "1"}, is_terminal=True)
    assert not render.use_colours({"TERM": "dumb"}, is_terminal=True)
    assert render.coloured("x", "failed", in_colour=True) == "\033[31mx\033[0m"
    assert render.coloured("x", "failed", in_colour=False) == "x"
