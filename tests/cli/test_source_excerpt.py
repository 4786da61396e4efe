"""A line of a file with a caret: the caret stands below the character, however wide it is."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.cli.source_excerpt import INDENT, MAX_COLUMNS, excerpt


def columns_of(text: str) -> int:
    """Count the columns of a text on a terminal."""
    return sum(
        0
        if unicodedata.category(character) in {"Mn", "Me"}
        else 2
        if unicodedata.east_asian_width(character) in {"W", "F"}
        else 1
        for character in text
    )


@pytest.mark.parametrize(
    ("line", "column", "shown", "before"),
    [
        ("warm: x", 7, "warm: x", 6),
        ("\twarm: x", 2, "        warm: x", 8),
        ("a\tb", 3, "a       b", 8),
        ("名: x", 4, "名: x", 4),
        ("e\u0301: x", 5, "e\u0301: x", 3),
        ("a\x1b[31mb", 7, "a?[31mb", 6),
        ("a\u202eb", 3, "a?b", 2),
        ("warm:", 6, "warm:", 5),
        ("warm:", 60, "warm:", 5),
    ],
)
def test_the_caret_stands_below_the_character(
    line: str, column: int, shown: str, before: int
) -> None:
    assert excerpt(line, column) == [f"{INDENT}{shown}", f"{INDENT}{' ' * before}^"]


@pytest.mark.parametrize("line", ["", "  ", "\t"])
def test_a_blank_line_is_not_shown(line: str) -> None:
    assert excerpt(line, 1) == []


def test_a_long_line_is_cut_around_the_caret() -> None:
    line = "".join(str(number % 10) for number in range(500))
    first, second = excerpt(line, 301)
    assert first.startswith(f"{INDENT}…")
    assert first.endswith("…")
    assert len(first) <= MAX_COLUMNS
    assert first[second.index("^")] == line[300]


@given(
    st.text(st.characters(codec="utf-8"), max_size=300), st.integers(1, 310), st.integers(1, 200)
)
def test_every_line_fits_and_the_caret_is_in_it(line: str, column: int, width: int) -> None:
    lines = excerpt(line, column, width)
    if not line.strip():
        assert lines == []
        return
    text, caret = lines
    assert text.isprintable()
    assert columns_of(text) <= max(width, 84) + 1
    assert caret.strip() == "^"
    assert len(caret) <= max(width, 84) + 2
