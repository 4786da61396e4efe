"""Durations and sizes, as systemd writes them.

Sources: systemd.time(7), "Parsing Time Spans"; sizes as in systemd.resource-control(5), where
K, M, G and T are powers of 1024.
"""

import math
import re

_SECONDS = {
    **dict.fromkeys(("us", "usec", "µs"), 1e-6),
    **dict.fromkeys(("ms", "msec"), 1e-3),
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
}
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_PIECE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zµ]*)\s*")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:iB|B)?")
_WRITTEN = (("w", 604800), ("d", 86400), ("h", 3600), ("min", 60), ("s", 1))

DURATION_FORM = "a duration such as 30s, 5min, 1h 30min or infinity"
SIZE_FORM = "a size such as 500K, 10M or 2G"


def parse_duration(given: str | float) -> float:
    """Read a duration.

    Parameters
    ----------
    given : str or float
        Such as ``"30s"``, ``"1h 30min"``, ``"infinity"``; a bare number is seconds.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    ValueError
        If it is none; the text says what one looks like.
    """
    text = str(given).strip()
    if text == "infinity":
        return math.inf
    total, place = 0.0, 0
    while place < len(text):
        piece = _PIECE.match(text, place)
        if piece is None or piece[2] not in _SECONDS:
            break
        total += float(piece[1]) * _SECONDS[piece[2]]
        place = piece.end()
    if not text or place < len(text) or math.isinf(total):
        raise ValueError(f"{given!r} is not {DURATION_FORM}")
    return total


def format_duration(seconds: float) -> str:
    """Write a duration so that `parse_duration` reads the same, to the millisecond."""
    if math.isinf(seconds):
        return "infinity"
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    pieces = []
    for unit, size in _WRITTEN:
        count, whole = divmod(whole, size)
        if count:
            pieces.append(f"{count}{unit}")
    if milliseconds:
        pieces.append(f"{milliseconds}ms")
    return " ".join(pieces) or "0s"


def parse_size(given: str | int) -> int:
    """Read a size.

    Parameters
    ----------
    given : str or int
        Such as ``"10M"`` or ``"2G"``, powers of 1024; a bare number is bytes.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    ValueError
        If it is none; the text says what one looks like.
    """
    found = _SIZE.fullmatch(str(given).strip())
    if found is None:
        raise ValueError(f"{given!r} is not {SIZE_FORM}")
    return round(float(found[1]) * _BYTES[found[2]])


def format_size(size: float) -> str:
    """Write a size for people, with three digits at the most."""
    for unit in ("B", "K", "M", "G"):
        if size < 1000:  # noqa: PLR2004  # four digits are too many to take in
            return f"{size:.3g}{unit if unit != 'B' else ''}"
        size /= 1024
    return f"{size:.3g}T"
