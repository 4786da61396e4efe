"""Durations and sizes as a person writes them in a profile: ``30s``, ``1h 30min``, ``2G``.

Rules: the spelling is systemd's, so that a value can be carried between a profile and a unit
file (systemd.time(7), "PARSING TIME SPANS"; systemd.resource-control(5) for sizes). A duration
is kept to the microsecond, a size to the byte, and what is formatted reads back as the same.
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

# Above this a float no longer tells microseconds apart; it is 285 years.
_LONGEST = 2**53
_LARGEST = 2**63
_LONGEST_TEXT = 100

_PIECE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z\u00b5\u03bc]+)\s*")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([BKMGT]?)")


def parse_duration(value: object) -> float:
    """Read a time span.

    Parameters
    ----------
    value : str, int or float
        ``"1h 30min"``, ``"500ms"``, ``"infinity"``; a bare number is seconds. It comes as it
        stands in YAML, so other types are refused here and not before.

    Returns
    -------
    float
        Seconds, 0 or more, to the microsecond; ``math.inf`` for ``"infinity"``.

    Raises
    ------
    ValueError
        If it is negative, not a number, over 285 years, or not of a form in systemd.time(7).
    """
    if isinstance(value, str):
        microseconds = _span(value)
    elif isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise _not_a_duration(value)
    else:
        microseconds = value if value == math.inf else Fraction(value) * 1_000_000
    if microseconds == math.inf:
        return math.inf
    if microseconds > _LONGEST:
        raise ValueError(f"{reprlib.repr(value)} is over 285 years: write infinity for no limit")
    return round(microseconds) / 1_000_000


def parse_size(value: object) -> int:
    """Read an amount of memory or disk.

    Parameters
    ----------
    value : str or int
        ``"2G"``, ``"1.5M"``, ``"512K"`` (base 1024); a bare number is bytes.

    Returns
    -------
    int
        Bytes, 0 or more, rounded down.

    Raises
    ------
    ValueError
        If it is negative, no number, of an unknown unit or too large.
    """
    if isinstance(value, str):
        found = _SIZE.fullmatch(value.strip()) if len(value) < _LONGEST_TEXT else None
        if found is None:
            raise _not_a_size(value)
        size = int(Fraction(found[1]) * _BYTES[found[2]])
    elif isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _not_a_size(value)
    else:
        size = value
    if size >= _LARGEST:
        raise ValueError(f"{reprlib.repr(value)} is larger than any disk: the limit is 8388607T")
    return size


def format_duration(seconds: float) -> str:
    """Write a duration so that it reads back as the same: ``5400.0`` is ``1h 30min``."""
    if seconds == math.inf:
        return "infinity"
    rest, parts = round(Fraction(seconds) * 1_000_000), []
    for unit in _PRINTED:
        count, rest = divmod(rest, _MICROSECONDS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts) or "0s"


def format_size(size: int) -> str:
    """Write a size in bytes in the largest unit that leaves no fraction: ``1536K``."""
    unit = next((unit for unit in "TGMK" if size and size % _BYTES[unit] == 0), "")
    return f"{size // _BYTES[unit]}{unit}"


def _span(text: str) -> Fraction | float:
    """Add up the pieces of a span, in microseconds."""
    text, whole = text.strip(), text
    if text == "infinity":
        return math.inf
    if not text or len(text) > _LONGEST_TEXT:
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
