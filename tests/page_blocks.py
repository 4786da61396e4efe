"""Reads the pages of the repository: their fenced blocks, commands, links and tables.

A block of a page is fenced by three backticks and names its language. In a block ``console``, a
line that begins with ``$`` is a command of a user, one that begins with ``#`` is a command of root,
and the lines below it are its output, in which ``…`` stands for anything. A comment above a block
says what cannot be seen in it::

    <!-- exit status: 4 -->                        of the block's last command
    <!-- not run: REASON; PATH::TEST -->           the block is not run; that test covers it
    <!-- not run: REASON; SCRIPT -->               or that script
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for folder in (".", "configs", "findings", "kconnd", "systemd", "tests")
    for path in (ROOT.glob("*.md") if folder == "." else (ROOT / folder).rglob("*.md"))
)
LANGUAGES = {"console", "yaml", "python", "mermaid", "text"}
_BLOCK = re.compile(
    r"(?P<marks>(?:^<!--[^\n]*-->\n)*)^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_NOT_RUN = re.compile(r"<!-- not run: (?P<reason>[^;]+); (?P<cover>\S+) -->")
_STATUS = re.compile(r"<!-- exit status: (?P<status>\d+) -->")
_LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Command:
    """A command of a page, the output that the page shows, and its exit status."""

    text: str
    output: tuple[str, ...]
    status: int = 0


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and what covers it where it is not run."""

    language: str
    text: str
    cover: str = ""
    status: int = 0

    def commands(self) -> Iterator[Command]:
        """Give the commands of a block ``console``."""
        parts = re.split(r"^([$#]) ", self.text, flags=re.MULTILINE)[1:]
        lines = [part.splitlines() for part in parts[1::2]]
        for number, (line, *output) in enumerate(lines, 1):
            yield Command(line, tuple(output), self.status if number == len(lines) else 0)


def blocks(page: Path) -> list[Block]:
    """List the fenced blocks of a page."""
    found = []
    for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        not_run, status = _NOT_RUN.search(match["marks"]), _STATUS.search(match["marks"])
        cover = not_run["cover"] if not_run else ""
        code = int(status["status"]) if status else 0
        found.append(Block(match["language"], match["text"], cover, code))
    return found


def prose(page: Path) -> str:
    """Give the text of a page without its fenced blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def code_spans(page: Path) -> list[str]:
    """List what a page's prose sets between backticks."""
    return _CODE.findall(prose(page))


def links(page: Path) -> list[str]:
    """List the targets of a page's links and pictures."""
    return [match["target"] for match in _LINK.finditer(prose(page))]


def anchors(page: Path) -> set[str]:
    """List the names by which a link can point into a page, as GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def table(page: Path, heading: str) -> dict[str, list[str]]:
    """Read the first table below a heading: its rows by the code in their first cell.

    Cells are given without the backticks around them.
    """
    text = f"\n{page.read_text(encoding='utf-8')}".split(f"\n{heading}\n", 1)[1]
    rows = re.search(r"^\|.*?(?=^[^|]|\Z)", text, re.MULTILINE | re.DOTALL)
    assert rows is not None, heading
    cells = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in rows[0].splitlines()[2:]
    ]
    return {first.strip("`"): rest for first, *rest in cells}


def shows(output: str, expected: tuple[str, ...]) -> bool:
    """Tell whether an output is what a page shows of it; blanks count as one."""
    lines = "".join(f"{' '.join(line.split())}\n" for line in output.splitlines())
    pattern = ""
    for line in expected:
        if line.strip() == "…":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            parts = " ".join(line.split()).split("…")
            pattern += "[^\n]*".join(map(re.escape, parts)) + "\n"
    return re.fullmatch(pattern, lines) is not None
