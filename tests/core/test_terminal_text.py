"""What a stranger's text may do to a terminal: be read, in colour; in whatever pieces it comes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.terminal_text import (
    MAX_PENDING_CHARACTERS,
    RESET,
    TerminalText,
    clean,
    is_colour,
)

# What a terminal may be given: text without control characters, and colours.
SAFE = re.compile(r"(?:\x1b\[[0-9;:]*m|[\t\n\r]|[^\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069])*")
steering = st.text(
    st.sampled_from("\x1b\x9b\x9d\x90[]P_;:m?0138\x07\\\n\r\tABK\u202eé"), max_size=60
)


def in_pieces(text: str, cuts: list[int], *, colours: bool = True) -> str:
    stream, shown, at = TerminalText(colours=colours), "", 0
    for cut in sorted(one for one in cuts if one <= len(text)):
        shown += stream.feed(text[at:cut])
        at = cut
    return shown + stream.feed(text[at:]) + stream.end()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\r\n", "plain\ttext\r\n"),
        ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
        ("\x1b[38;5;208ma\x1b[38;2;1;2;3mb\x1b[38:2::1:2:3mc\x1b[m", None),
        ("a\x1b[31m", "a\x1b[31m" + RESET),  # a colour ends with the text
        ("\x1b[8mhidden\x1b[0m", "hidden\x1b[0m"),
        ("\x1b[5;31mx", "x"),
        ("up\x1b[A\x1b[2Kline\x1b[?1049h", "upline"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]52;c;Zm9v\x1b\\x", "x"),
        ("\x9d0;title\x9cx\x9b31mred\x9b0m", "x\x9b31mred\x9b0m"),
        ("\x1bP1$r0m\x1b\\x\x1bcy\x1b(0z", "xyz"),
        ("bell\x07 back\x08 nul\x00 del\x7f", "bell? back? nul? del?"),
        ("\x1b]0;never ended", "?]0;never ended"),
        ("user\u202etxt.exe", "user?txt.exe"),
        ("👩\u200d🔬 café", "👩\u200d🔬 café"),
    ],
)
def test_what_is_shown(text: str, shown: str | None) -> None:
    expected = text if shown is None else shown
    assert clean(text, colours=True) == expected


def test_a_cell_of_a_table_has_no_colours() -> None:
    assert clean("\x1b[31mred\x1b[0m\x1b]0;t\x07") == "red"


@given(steering, st.lists(st.integers(0, 60), max_size=8), st.booleans())
def test_only_text_and_colours_get_through_however_it_is_cut(
    text: str,
    cuts: list[int],
    colours: bool,  # noqa: FBT001  # a choice of Hypothesis
) -> None:
    shown = in_pieces(text, cuts, colours=colours)
    assert shown == clean(text, colours=colours)
    without_c1 = shown.replace("\x9b", "\x1b[")
    assert SAFE.fullmatch(without_c1), ascii(shown)
    assert colours or not any(char in shown for char in "\x1b\x9b")


@given(st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs")), max_size=80))
def test_text_is_left_as_it_is(text: str) -> None:
    assert clean(text, colours=True) == text


def test_what_never_ends_is_not_kept_for_ever() -> None:
    stream = TerminalText()
    shown = "".join(stream.feed("\x1b]0;" + "a" * 1000) for _ in range(20))
    assert len(shown) > MAX_PENDING_CHARACTERS
    assert "\x1b" not in shown


@pytest.mark.parametrize("parameters", ["", "0", "1;4;91", "38;5;1;1", "48;2;1;2;3", "4:3"])
def test_colours(parameters: str) -> None:
    assert is_colour(parameters)


@pytest.mark.parametrize("parameters", ["5", "8", "1;8", "38;8", "10", "99999999999", "6;31"])
def test_other_attributes(parameters: str) -> None:
    assert not is_colour(parameters)
