"""Renders a line of a file with a caret below the place of a fault, as compilers do.

All functions are pure. A terminal shows some characters in two columns and some in none (Unicode
Standard Annex 11), so the caret is placed by columns and not by characters. Tabs become blanks, and
control characters become question marks. A long line is cut around the caret.
"""

from __future__ import annotations

import unicodedata

INDENT = "    "
TAB_COLUMNS = 8
MAX_COLUMNS = 100
CONTEXT_COLUMNS = 40  # shown before the caret of a line that is cut
WIDE = frozenset({"W", "F"})
INVISIBLE = frozenset({"Mn", "Me", "Cf"})
CUT = "…"


def excerpt(line: str, column: int, max_columns: int = MAX_COLUMNS) -> list[str]:
    """Return a line and the line with its caret; nothing for a blank line.

    Parameters
    ----------
    line : str
        The line of the file, without its end.
    column : int
        The place of the fault in characters, counted from 1.
    max_columns : int
        The columns that may be used, with the indentation.
    """
    if not line.strip():
        return []
    cells = _cells(line)
    at = min(column - 1, len(cells))
    room = max(max_columns - len(INDENT), 2 * CONTEXT_COLUMNS)
    start = _first_shown(cells, at, room)
    prefix = CUT if start else ""
    shown, used = prefix, len(prefix)
    for cell, columns in cells[start:]:
        if used + columns > room - 1:
            shown += CUT
            break
        shown, used = shown + cell, used + columns
    caret = len(prefix) + sum(columns for _, columns in cells[start:at])
    return [f"{INDENT}{shown}".rstrip(), f"{INDENT}{' ' * caret}^"]


def _cells(line: str) -> list[tuple[str, int]]:
    """Return the shown form of each character, and the number of its columns."""
    cells, used = [], 0
    for character in line:
        if character == "\t":
            columns = TAB_COLUMNS - used % TAB_COLUMNS
            cell = " " * columns
        else:
            cell, columns = _cell(character)
        cells.append((cell, columns))
        used += columns
    return cells


def _cell(character: str) -> tuple[str, int]:
    if unicodedata.category(character) in INVISIBLE and character.isprintable():
        return character, 0
    if not character.isprintable():
        return "?", 1
    return character, 2 if unicodedata.east_asian_width(character) in WIDE else 1


def _first_shown(cells: list[tuple[str, int]], at: int, room: int) -> int:
    """Choose the first character to show, so that the caret and some text before it are shown."""
    if sum(columns for _, columns in cells[: at + 1]) < room:
        return 0
    start, columns = at, 0
    while start > 0 and columns < CONTEXT_COLUMNS:
        start -= 1
        columns += cells[start][1]
    return start
