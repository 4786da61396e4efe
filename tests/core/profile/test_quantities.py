"""Durations and sizes: what systemd.time(7) gives as examples, what must fail, and the way back."""

import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kconnd.core.profile.quantities import (
    DURATION_PATTERN,
    SIZE_PATTERN,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

MICROSECONDS = st.integers(min_value=0, max_value=2**53)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("5min", 300.0),
        ("500ms", 0.5),
        ("1h 30min", 5400.0),
        # The examples in systemd.time(7), "Parsing time spans".
        ("2 h", 7200.0),
        ("2hours", 7200.0),
        ("48hr", 172_800.0),
        ("1y 12month", 31_557_600.0 + 12 * 2_629_800.0),
        ("55s500ms", 55.5),
        ("300ms20s 5day", 432_020.3),
        ("1M", 2_629_800.0),
        ("1m", 60.0),
        ("7\N{MICRO SIGN}s", 0.000007),
        ("7\N{GREEK SMALL LETTER MU}s", 0.000007),
        ("1.5min", 90.0),
        ("10", 10.0),
        ("0.25", 0.25),
        ("  3s  ", 3.0),
        ("infinity", math.inf),
        (0, 0.0),
        (12, 12.0),
        (0.1, 0.1),
        (math.inf, math.inf),
    ],
)
def test_duration_reads(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "soon",
        "-1s",
        "- 1s",
        "1 fortnight",
        "5 S",
        "s",
        "1s 2",
        "1 2s",
        "1..5s",
        "1.s",
        ".5s",
        "1e3",
        "1h;30min",
        "٣s",
        "nan",
        "inf",
        "Infinity",
        "infinity 1s",
        "1s" * 200,
        "9" * 5000,
        -1,
        -0.5,
        math.nan,
        -math.inf,
        True,
        False,
        None,
        [],
    ],
)
def test_a_bad_duration_says_which_forms_there_are(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration: write 30s, 5min"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["300y", 10**400, "9" * 90, 1e300])
def test_a_duration_beyond_a_life_is_told_to_be_infinity(text: str | float) -> None:
    with pytest.raises(ValueError, match="write infinity"):
        parse_duration(text)


@given(MICROSECONDS)
@example(4400254962629967)  # where a product of floats is off by one
def test_a_duration_reads_back_as_it_was_written(microseconds: int) -> None:
    seconds = microseconds / 1_000_000
    text = format_duration(seconds)
    assert parse_duration(text) == seconds
    assert re.search(DURATION_PATTERN, text)


@given(MICROSECONDS)
def test_a_number_is_seconds_to_the_microsecond(microseconds: int) -> None:
    assert parse_duration(microseconds / 1_000_000) == microseconds / 1_000_000


@given(st.text(max_size=20) | st.floats() | st.integers())
def test_any_input_gives_a_duration_or_a_value_error(value: str | float) -> None:
    try:
        seconds = parse_duration(value)
    except ValueError:
        return
    assert seconds >= 0
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.5, "500ms"),
        (60.0, "1min"),
        (90.0, "1min 30s"),
        (90_061.000001, "1d 1h 1min 1s 1us"),
        (math.inf, "infinity"),
    ],
)
def test_a_duration_is_written_as_a_person_would(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1", 1),
        ("10B", 10),
        ("512K", 524_288),
        ("10M", 10_485_760),
        ("2G", 2_147_483_648),
        ("2 G", 2_147_483_648),
        ("1T", 1 << 40),
        ("1.5K", 1536),
        ("0.3K", 307),
        (" 7 ", 7),
        (4096, 4096),
    ],
)
def test_size_reads(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "big", "-1", "-1K", "2g", "10MB", "1GiB", "1K 2", "1.K", "٣K", "9" * 5000),
        *(-1, 1.5, math.nan, math.inf, True, None, {}),
    ],
)
def test_a_bad_size_says_which_forms_there_are(text: object) -> None:
    with pytest.raises(ValueError, match="is not a size: write 512K, 10M, 2G"):
        parse_size(text)


@pytest.mark.parametrize("text", [2**63, "9" * 60, "8388608T"])
def test_a_size_has_an_end(text: str | int) -> None:
    with pytest.raises(ValueError, match="larger than any disk"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_a_size_reads_back_as_it_was_written(size: int) -> None:
    text = format_size(size)
    assert parse_size(text) == size
    assert re.search(SIZE_PATTERN, text)


@given(st.integers(min_value=1, max_value=1000), st.sampled_from("KMGT"))
def test_a_whole_number_of_units_is_written_in_that_unit_or_a_larger(count: int, unit: str) -> None:
    written = format_size(parse_size(f"{count}{unit}"))
    assert written[-1] in "KMGT"["KMGT".index(unit) :]
