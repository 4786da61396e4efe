"""Converts HTML to text for a terminal: a line for each block, and no tags."""

from __future__ import annotations

import re
from html.parser import HTMLParser

LINE_TAGS = frozenset(
    [
        *("p", "div", "br", "hr", "pre", "table", "tr", "ul", "ol", "li", "dl", "dt", "dd"),
        *("h1", "h2", "h3", "h4", "h5", "h6"),
    ]
)
CELL_TAGS = frozenset({"td", "th"})
HIDDEN_TAGS = frozenset({"script", "style", "title"})
CELL_SEPARATOR = "  "
_SPACE = re.compile(r"\s+")


def html_to_text(html: str) -> str:
    """Return the text of HTML; blank lines are left out."""
    parser = _TextParser()
    parser.feed(html)
    parser.close()
    lines = "".join(parser.pieces).splitlines()
    return "\n".join(line.rstrip() for line in lines if line.strip())


class _TextParser(HTMLParser):
    """Collects the visible text, with a line break at each border of a block."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._open: list[str] = []  # open tags whose text is hidden or keeps its white space

    def handle_starttag(self, tag: str, _attributes: object) -> None:
        if tag in HIDDEN_TAGS or tag == "pre":
            self._open.append(tag)
        self._break_line(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            self._open.remove(tag)
        if tag in CELL_TAGS:
            self.pieces.append(CELL_SEPARATOR)
        self._break_line(tag)

    def handle_data(self, data: str) -> None:
        if HIDDEN_TAGS.isdisjoint(self._open):
            self.pieces.append(data if "pre" in self._open else self._collapse(data))

    def parse_marked_section(self, i: int, report: int = 1) -> int:
        """Skip ``<![...>``; without this method, `html.parser` in some Python versions fails."""
        return self.parse_bogus_comment(i, bool(report))

    def _break_line(self, tag: str) -> None:
        if tag in LINE_TAGS:
            self.pieces.append("\n")

    def _collapse(self, data: str) -> str:
        """Replace white space by single spaces, and remove it at the start of a line or cell."""
        at_start = not self.pieces or self.pieces[-1] in {"\n", CELL_SEPARATOR}
        text = _SPACE.sub(" ", data)
        return text.lstrip() if at_start else text
