"""How things look: times, sizes, tables, colours. All pure."""

import math
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kconnd.cli import render

UNIT = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}
NEXT = {"s": 60, "min": 60, "h": 24, "d": 7, "w": math.inf}
WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12)


@given(st.floats(0, 1e9))
def test_a_span_is_short_and_never_more_than_what_passed(seconds: float) -> None:
    found = re.fullmatch(r"([0-9]+)(s|min|h|d|w)", render.span(seconds))
    assert found
    count, unit = int(found[1]), found[2]
    assert count * UNIT[unit] <= seconds < (count + 1) * UNIT[unit]
    assert count < NEXT[unit]
    assert count > 0 or unit == "s"


@given(st.floats(-1e6, -0.001))
def test_a_clock_that_went_back_shows_no_negative_time(seconds: float) -> None:
    assert render.span(seconds) == "0s"


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(2999, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    st.integers(-(10**6), 10**6),
)
def test_a_time_of_the_daemon_is_read_to_the_millisecond(at: datetime, later: int) -> None:
    text = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    now = (datetime.fromisoformat(text) + timedelta(milliseconds=later)).timestamp()
    since = render.seconds_since(text, now)
    assert since == pytest.approx(later / 1000, abs=1e-4)


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_time_that_is_not_there_is_a_dash(nothing: str | None) -> None:
    assert render.ago(nothing, 1e9) == "-"


def test_ago() -> None:
    now = datetime(2026, 11, 23, 9, 50, 30, tzinfo=UTC).timestamp()
    assert render.ago("2026-11-23T09:50:00.123Z", now) == "29s ago"
    assert render.ago("2026-11-23T07:50:00.000Z", now) == "2h ago"


@given(st.integers(0, 999 << 40))
@example(1000 * 1024 - 100)
@example((1000 << 30) - (100 << 20))
def test_a_size_is_short_and_within_half_a_percent(count: int) -> None:
    text = render.size(count)
    assert len(text) <= 6
    found = re.fullmatch(r"([0-9.]+)([KMGT]?)", text)
    assert found
    value = float(found[1]) * 1024 ** " KMGT".index(found[2] or " ")
    assert value == pytest.approx(count, rel=0.006, abs=0.5)


def test_a_size_that_is_not_known_is_a_dash() -> None:
    assert render.size(None) == "-"


@given(st.lists(st.tuples(WORDS, WORDS, WORDS), max_size=8), st.frozensets(st.integers(0, 1)))
def test_every_column_of_a_table_is_aligned(
    rows: list[tuple[str, str, str]], right: frozenset[int]
) -> None:
    head = ("NAME", "STATE", "NOTE")
    widths = [max(len(row[number]) for row in (head, *rows)) for number in range(3)]
    for row, line in zip((head, *rows), render.table(head, rows, right), strict=True):
        start = 0
        for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
            place = line[start : start + width]
            aligned = place.lstrip() if number in right else place.rstrip()
            assert aligned == cell
            start += width + 2
        assert line == line.rstrip()


@given(st.text(max_size=60), st.integers(20, 60))
def test_the_last_cell_is_cut_to_the_terminal(note: str, width: int) -> None:
    note = render.plain(note).strip()
    line = render.table(("A", "B", "NOTE"), [("a", "b", note)], width=width)[1]
    assert len(line) <= width
    assert note.startswith(line[6:].rstrip("…").rstrip())
    assert ("…" in line) == ("…" in note or len(note) > width - 6)


def test_paint_does_not_move_columns() -> None:
    lines = render.table(
        ("NAME", "STATE", "PID"),
        [("running", "running", "1"), ("a", "lost", "22")],
        paint=lambda cell, padded: render.coloured(padded, cell, in_colour=True),
    )
    assert lines[1] == "running  \033[32mrunning\033[0m  1"
    assert lines[2] == "a        \033[31mlost   \033[0m  22"


@pytest.mark.parametrize(
    ("env", "terminal", "wanted"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_colour_is_for_terminals_and_can_be_declined(
    env: dict[str, str], *, terminal: bool, wanted: bool
) -> None:
    assert render.use_colours(env, is_terminal=terminal) is wanted


@given(st.text())
def test_no_word_of_a_kernel_steers_the_terminal(text: str) -> None:
    shown = render.plain(text)
    assert len(shown) == len(text)
    assert shown.isprintable()


def test_plain_leaves_what_people_write() -> None:
    assert render.plain("Grüße\t日本\033[2J") == "Grüße 日本?[2J"


@given(st.lists(st.tuples(WORDS.filter(bool), st.lists(WORDS, max_size=3)), min_size=1))
def test_pairs_stand_in_two_columns(rows: list[tuple[str, list[str]]]) -> None:
    width = max(len(name) for name, _ in rows) + 2
    lines = render.pairs([(name, "\n".join(values)) for name, values in rows])
    names = [line[:width].strip() for line in lines]
    assert [name for name in names if name] == [name for name, _ in rows]
