"""Formats values for a terminal: times, sizes, tables and colours.

Colours are used on a terminal unless NO_COLOR is set (no-color.org), and nowhere else. All
functions are pure, except `print_json`.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

COLOURS = {
    "running": "32",
    "starting": "33",
    "launching": "33",
    "stopping": "33",
    "backoff": "33",
    "failed": "31",
    "lost": "31",
    "stopped": "90",
}
SPAN_UNITS = ((604800, "w"), (86400, "d"), (3600, "h"), (60, "min"))
SIZE_UNITS = ("K", "M", "G", "T")
MAX_NUMBER = 999.5  # larger numbers round to 1000, which has four digits
MIN_CELL_CHARS = 10  # the minimal width to which a table's last cell is cut


def use_colours(env: Mapping[str, str], *, is_terminal: bool) -> bool:
    """Return whether to use colours."""
    return is_terminal and not env.get("NO_COLOR") and env.get("TERM") != "dumb"


def coloured(text: str, state: str, *, in_colour: bool) -> str:
    """Return a text in the colour of a kernel's state."""
    code = COLOURS.get(state)
    return f"\033[{code}m{text}\033[0m" if in_colour and code else text


def span(seconds: float) -> str:
    """Format a time span in one unit: ``3min``, ``2d``."""
    for unit_seconds, unit in SPAN_UNITS:
        if seconds >= unit_seconds:
            return f"{int(seconds // unit_seconds)}{unit}"
    return f"{max(0, int(seconds))}s"


def seconds_since(text: str | None, now: float) -> float | None:
    """Return the seconds since a time in a reply (ISO 8601, UTC); None for an invalid time."""
    if not text:
        return None
    # The C part of `datetime` is enough. An import of the whole module makes Python 3.11 run 2,600
    # more lines, which costs a look-up about 1 ms.
    from _datetime import datetime  # type: ignore[import-not-found]  # noqa: PLC0415  # see above

    try:
        at: float = datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        return None
    return now - at


def ago(text: str | None, now: float) -> str:
    """Format the age of a reply's timestamp: ``3min ago``; ``-`` if there is no timestamp."""
    seconds = seconds_since(text, now)
    return "-" if seconds is None else f"{span(seconds)} ago"


def size(count: int | None) -> str:
    """Format a number of bytes with at most three digits: ``48.2M``; ``-`` if unknown."""
    if count is None:
        return "-"
    if count < MAX_NUMBER:
        return str(count)
    value, unit = count / 1024, 0
    while value >= MAX_NUMBER and unit < len(SIZE_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.3g}{SIZE_UNITS[unit]}"


def plain(text: str) -> str:
    """Replace each control character in an untrusted text by a question mark or a space."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char in "\t\n" else "?" for char in text)


def last_words(output: str) -> list[str]:
    """Split the last output of a kernel into lines that are safe to print on a terminal.

    Control sequences, including colours, are removed; `plain` would replace them by question marks.
    A traceback contains many harmless control sequences, and the question marks would make the
    traceback hard to read.
    """
    from kconnd.core.terminal_text import clean  # noqa: PLC0415  # for kernels that exited only

    return [plain(line) for line in clean(output).replace("\r", "\n").split("\n")]


def printable(reply: Any) -> Any:
    """Apply `plain` to all texts of a reply, because they can come from another user's program.

    Line breaks are kept; `table` replaces line breaks in cells by spaces. ``jupyter_name`` is kept,
    because `origin_of_name` escapes it.
    """
    if isinstance(reply, str):
        return "\n".join(map(plain, reply.split("\n")))
    if isinstance(reply, list):
        return [printable(element) for element in reply]
    if isinstance(reply, dict):
        return {printable(key): _printable_field(key, value) for key, value in reply.items()}
    return reply


def _printable_field(key: str, value: Any) -> Any:
    if key == "output_tail" and isinstance(value, str):
        return "\n".join(last_words(value))
    return value if key == "jupyter_name" else printable(value)


def origin_of_name(kernel: Mapping[str, Any]) -> str:
    """Describe the kernel spec from which a kernel's name is derived; ``""`` for other kernels.

    Jupyter's name of the kernel spec is quoted and escaped, because it can contain any character.
    """
    spec = kernel.get("jupyter_name")
    return f"derived from {spec!r}" if spec else ""


def profile_status(kernel: Mapping[str, Any]) -> str:
    """Describe how a kernel's profile changed since its process started; ``""`` if it did not."""
    status = str(kernel["profile_status"])
    return {"current": "", "orphaned": "profile removed"}.get(status, status)


def fault_line(fault: Mapping[str, Any]) -> str:
    """Format a profile's fault like a compiler's message: file, line, column, text."""
    key = f"{fault['path']}: " if fault["path"] else ""
    hint = f"; {fault['hint']}" if fault["hint"] else ""
    return plain(
        f"{fault['file']}:{fault['line']}:{fault['column']}: {key}{fault['message']}{hint}"
    )


def cut(text: str, width: int) -> str:
    """Truncate a text to a width, and mark the truncation."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: frozenset[int] = frozenset(),
    *,
    width: int = 0,
    paint: Callable[[str, str], str] = lambda _cell, padded: padded,
) -> list[str]:
    """Lay out a table; each column is as wide as its widest cell.

    Parameters
    ----------
    head : sequence of str
        The names of the columns.
    rows : sequence of sequences of str
        The cells.
    right : frozenset of int
        The columns that are aligned to the right.
    width : int
        The width of the terminal; 0 for no limit. The last cell of each row is cut so that the row
        fits.
    paint : callable
        A function that colours a cell of the second column. Its arguments are the text of the cell,
        and the same text padded to the width of the column.
    """
    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    room = max(width - sum(widths[:-1]) - 2 * len(widths[:-1]), MIN_CELL_CHARS) if width else 0
    lines = []
    for row in (head, *rows):
        cells = [
            cell.rjust(column_width) if number in right else cell.ljust(column_width)
            for number, (cell, column_width) in enumerate(zip(row, widths, strict=True))
        ]
        cells[1] = paint(row[1], cells[1])
        cells[-1] = cut(row[-1], room) if room else cells[-1]
        lines.append("  ".join(cells).rstrip())
    return lines


def pairs(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Lay out names and values; indent all lines of a value like its first line."""
    width = max(len(name) for name, _ in rows)
    lines = []
    for name, value in rows:
        first, *more = value.splitlines() or [""]
        lines.append(f"{name.rjust(width)}  {first}".rstrip())
        lines.extend(f"{'':{width}}  {line}".rstrip() for line in more)
    return lines


def print_json(content: Any) -> None:
    """Print JSON on stdout, for programs."""
    import json  # noqa: PLC0415  # for --json only

    json.dump(content, sys.stdout, indent=2)
    sys.stdout.write("\n")
    sys.stdout.flush()
