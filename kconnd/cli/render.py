"""How things look in a terminal: times, sizes, tables, colours. Pure, but for `print_json`.

Colour is used on a terminal only, and not where NO_COLOR is set (no-color.org).
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
SPANS = ((604800, "w"), (86400, "d"), (3600, "h"), (60, "min"))
UNITS = ("K", "M", "G", "T")
MOST = 999.5  # rounds to 1000, which has a digit too many
LEAST = 10  # columns of a cell that is cut


def colours_wanted(env: Mapping[str, str], *, terminal: bool) -> bool:
    """Tell whether to use colours."""
    return terminal and not env.get("NO_COLOR") and env.get("TERM") != "dumb"


def coloured(text: str, state: str, *, wanted: bool) -> str:
    """Give a text the colour of a state."""
    code = COLOURS.get(state)
    return f"\033[{code}m{text}\033[0m" if wanted and code else text


def span(seconds: float) -> str:
    """Say how long in one unit: ``3min``, ``2d``."""
    for size, unit in SPANS:
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def seconds_since(text: str | None, now: float) -> float | None:
    """Give the seconds from a reply's time (ISO 8601, UTC) until now; None where it is none."""
    try:
        return _seconds_since(text, now) if text else None
    except (AttributeError, ValueError):
        return None


def _seconds_since(text: str, now: float) -> float:
    from datetime import datetime  # noqa: PLC0415  # 1.6 ms, and few verbs print a time

    return now - datetime.fromisoformat(text).timestamp()


def ago(text: str | None, now: float) -> str:
    """Say how long ago a time was; ``-`` where there is none."""
    seconds = seconds_since(text, now)
    return "-" if seconds is None else f"{span(seconds)} ago"


def size(count: int | None) -> str:
    """Say how many bytes with three digits at the most: ``48.2M``; ``-`` where unknown."""
    if count is None:
        return "-"
    if count < MOST:
        return str(count)
    value, unit = count / 1024, 0
    while value >= MOST and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.3g}{UNITS[unit]}"


def plain(text: str) -> str:
    """Take out what would steer the terminal: a kernel's words are not ours."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char in "\t\n" else "?" for char in text)


def last_words(output: str) -> list[str]:
    """Give the lines of what a kernel printed last, for a terminal.

    Sequences are dropped whole, colours too: a traceback is full of them. In a name or a sentence
    they would be no accident, so `plain` leaves a mark for each.
    """
    from kconnd.core.terminal_text import clean  # noqa: PLC0415  # only for kernels that ended

    return [plain(line) for line in clean(output).replace("\r", "\n").split("\n")]


def printable(reply: Any) -> Any:
    """Take it out of all that a daemon has replied, which may be another user's program.

    Lines and tabs stay: where they would break a table, `plain` takes them out of its cells.
    """
    if isinstance(reply, str):
        return "\n".join(map(plain, reply.split("\n")))
    if isinstance(reply, list):
        return [printable(one) for one in reply]
    if isinstance(reply, dict):
        return {
            printable(key): "\n".join(last_words(value))
            if key == "output_tail" and isinstance(value, str)
            else printable(value)
            for key, value in reply.items()
        }
    return reply


def fault_line(fault: Mapping[str, Any]) -> str:
    """Give a profile's fault as compilers do: file, line, column, what."""
    key = f"{fault['path']}: " if fault["path"] else ""
    hint = f"; {fault['hint']}" if fault["hint"] else ""
    return plain(
        f"{fault['file']}:{fault['line']}:{fault['column']}: {key}{fault['message']}{hint}"
    )


def cut(text: str, width: int) -> str:
    """Shorten a text to a width, with a mark where something is missing."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: frozenset[int] = frozenset(),
    *,
    width: int = 0,
    paint: Callable[[str, str], str] = lambda _cell, padded: padded,
) -> list[str]:
    """Lay out a table: columns as wide as their widest cell, the last one as it comes.

    Parameters
    ----------
    head : sequence of str
        The columns' names.
    rows : sequence of sequences of str
        The cells.
    right : frozenset of int
        Columns that are set to the right.
    width : int
        Columns of the terminal, to which the last cell is cut; 0 for no limit.
    paint : callable
        Gives a cell of the second column its colour, from its text and its padded text.
    """
    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    room = max(width - sum(widths[:-1]) - 2 * len(widths[:-1]), LEAST) if width else 0
    lines = []
    for row in (head, *rows):
        cells = [
            cell.rjust(wide) if number in right else cell.ljust(wide)
            for number, (cell, wide) in enumerate(zip(row, widths, strict=True))
        ]
        cells[1] = paint(row[1], cells[1])
        cells[-1] = cut(row[-1], room) if room else cells[-1]
        lines.append("  ".join(cells).rstrip())
    return lines


def pairs(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Lay out names and values; further lines of a value stand below its first."""
    width = max(len(name) for name, _ in rows)
    lines = []
    for name, value in rows:
        first, *more = value.splitlines() or [""]
        lines.append(f"{name.rjust(width)}  {first}".rstrip())
        lines.extend(f"{'':{width}}  {line}".rstrip() for line in more)
    return lines


def print_json(content: Any) -> None:
    """Print for programs."""
    import json  # noqa: PLC0415  # the client has loaded it while it waited

    json.dump(content, sys.stdout, indent=2)
    sys.stdout.write("\n")
    sys.stdout.flush()
