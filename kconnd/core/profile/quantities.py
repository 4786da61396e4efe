"""Parses and formats the durations and sizes of a profile: ``30s``, ``1h 30min``, ``2G``.

Rules. The syntax is systemd's, so that a value can be copied between a profile and a unit file
(systemd.time(7), "PARSING TIME SPANS"; systemd.resource-control(5) for sizes). A duration is exact
to the microsecond, and a size is exact to the byte. A formatted value parses to the same value.
"""

import math
import re
import reprlib
from fractions import Fraction

DURATION_PATTERN = (
    r"^\s*(infinity|[0-9]+(\.[0-9]+)?|([0-9]+(\.[0-9]+)?\s*[A-Za-z\u00b5\u03bc]+\s*)+)\s*$"
)
SIZE_PATTERN = r"^\s*[0-9]+(\.[0-9]+)?\s*[BKMGT]?\s*$"

_MICROSECONDS = {
    name: size
    for size, names in (
        (1, "us usec \N{MICRO SIGN}s \N{GREEK SMALL LETTER MU}s"),
        (1_000, "ms msec"),
        (1_000_000, "s sec second seconds"),
        (60_000_000, "m min minute minutes"),
        (3_600_000_000, "h hr hour hours"),
        (86_400_000_000, "d day days"),
        (604_800_000_000, "w week weeks"),
        (2_629_800_000_000, "M month months"),
        (31_557_600_000_000, "y year years"),
    )
    for name in names.split()
}
_PRINTED = ("d", "h", "min", "s", "ms", "us")
_BYTES = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

# 285 years; for longer times, a float of seconds is not exact to the microsecond.
_MAX_DURATION_US = 2**53
_MAX_SIZE_BYTES = 2**63
_MAX_TEXT_CHARS = 100

_PIECE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z\u00b5\u03bc]+)\s*")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([BKMGT]?)")


def parse_duration(value: object) -> float:
    """Parse a duration.

    Parameters
    ----------
    value : str, int or float
        ``"1h 30min"``, ``"500ms"``, ``"infinity"``; a bare number is in seconds. The value comes
        unchecked from YAML, so this function refuses any other type.

    Returns
    -------
    float
        Seconds, 0 or more, rounded to the microsecond; ``math.inf`` for ``"infinity"``.

    Raises
    ------
    ValueError
        If the value is negative, not a number, over 285 years, or not a time span of
        systemd.time(7).
    """
    if isinstance(value, str):
        microseconds = _span(value)
    elif isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise _not_a_duration(value)
    else:
        microseconds = value if value == math.inf else Fraction(value) * 1_000_000
    if microseconds == math.inf:
        return math.inf
    if microseconds > _MAX_DURATION_US:
        raise ValueError(f"{reprlib.repr(value)} is over 285 years: write infinity for no limit")
    return round(microseconds) / 1_000_000


def parse_size(value: object) -> int:
    """Parse an amount of memory or disk space.

    Parameters
    ----------
    value : str or int
        ``"2G"``, ``"1.5M"``, ``"512K"`` (base 1024); a bare number is in bytes.

    Returns
    -------
    int
        Bytes, 0 or more, rounded down.

    Raises
    ------
    ValueError
        If the value is negative, not a number, too large, or has an unknown unit.
    """
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip()) if len(value) < _MAX_TEXT_CHARS else None
        if match is None:
            raise _not_a_size(value)
        size = int(Fraction(match[1]) * _BYTES[match[2]])
    elif isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _not_a_size(value)
    else:
        size = value
    if size >= _MAX_SIZE_BYTES:
        raise ValueError(f"{reprlib.repr(value)} is larger than any disk: the limit is 8388607T")
    return size


def format_duration(seconds: float) -> str:
    """Format a duration so that it parses to the same value: ``5400.0`` is ``1h 30min``."""
    if seconds == math.inf:
        return "infinity"
    microseconds, parts = round(Fraction(seconds) * 1_000_000), []
    for unit in _PRINTED:
        count, microseconds = divmod(microseconds, _MICROSECONDS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts) or "0s"


def format_size(size: int) -> str:
    """Format a size in bytes with the largest unit that leaves no fraction: ``1536K``."""
    unit = next((unit for unit in "TGMK" if size and size % _BYTES[unit] == 0), "")
    return f"{size // _BYTES[unit]}{unit}"


def _span(text: str) -> Fraction | float:
    """Parse a time span, and return it in microseconds."""
    text, whole = text.strip(), text
    if text == "infinity":
        return math.inf
    if not text or len(text) > _MAX_TEXT_CHARS:
        raise _not_a_duration(whole)
    if _NUMBER.fullmatch(text):
        return Fraction(text) * 1_000_000
    total, position = Fraction(0), 0
    while position < len(text):
        piece = _PIECE.match(text, position)
        if piece is None or piece[2] not in _MICROSECONDS:
            raise _not_a_duration(whole)
        total += Fraction(piece[1]) * _MICROSECONDS[piece[2]]
        position = piece.end()
    return total


def _not_a_duration(value: object) -> ValueError:
    return ValueError(
        f"{reprlib.repr(value)} is not a duration: write 30s, 5min, 1h 30min, 500ms, "
        "a number of seconds, or infinity"
    )


def _not_a_size(value: object) -> ValueError:
    return ValueError(
        f"{reprlib.repr(value)} is not a size: write 512K, 10M, 2G, 1T or a number of bytes"
    )
