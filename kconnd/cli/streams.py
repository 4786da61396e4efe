"""The verbs that print as things come: logs and events.

Rules: only the main thread prints, so that Ctrl-C and a closed pipe end it at once; lines of
several kernels never mix; what a log holds steers no terminal (`kconnd.core.terminal_text`).
"""

from __future__ import annotations

import json

from kconnd.cli.arguments import add_names, client_for, expand, parser
from kconnd.cli.render import plain
from kconnd.client import kernel_path
from kconnd.core.protocol.request_head import quoted
from kconnd.core.terminal_text import ESCAPE, RESET, TerminalText
from kconnd.errors import KconndError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Piece = tuple[str, str | Exception | None]  # a kernel and text, how it failed, or the end


def logs(arguments: list[str]) -> int:
    """Show kernels' output."""
    verb = parser(
        "logs",
        "Show what kernels wrote to their output; several names go before their lines. Of control\n"
        "sequences only colours are shown, unless --raw asks for all of them.",
        "kconnd-ctl logs -f mykernel",
        'one object a line: {"name", "text"}; text may hold several lines',
    )
    add_names(verb)
    verb.add_argument("-n", "--lines", type=int, default=100, metavar="N", help="how many lines")
    verb.add_argument("-f", "--follow", action="store_true", help="go on with what comes")
    verb.add_argument(
        "--raw", action="store_true", help="pass control sequences on, which steer the terminal"
    )
    given = verb.parse_args(arguments)
    client = client_for(given)
    names = expand(client, given.names)
    query = f"lines={given.lines}&follow={int(given.follow)}"

    def read(name: str) -> Iterator[str]:
        return (one["text"] for one in client.stream(f"{kernel_path(name, 'logs')}?{query}"))

    together = given.follow and len(names) > 1
    pieces = _as_they_come(names, read) if together else _one_by_one(names, read)
    show = _in_json if given.json else _printer(names, raw=given.raw)
    try:
        return _copy(pieces, show)
    finally:  # Ctrl-C ends `logs -f`, and must not leave the terminal coloured
        if isinstance(show, _Filtered):
            show.end()


def _printer(names: list[str], *, raw: bool) -> Callable[[str, str], None]:
    show = _Lines(raw=raw) if len(names) > 1 else _print
    return show if raw else _Filtered(names, show)


def _copy(pieces: Iterable[Piece], show: Callable[[str, str], None]) -> int:
    code = 0
    for name, piece in pieces:
        if isinstance(piece, KconndError):
            from kconnd.cli.main import tell  # noqa: PLC0415  # it imports this module's verbs

            tell(piece)
            code = code or piece.exit_code
        elif isinstance(piece, Exception):
            raise piece
        else:
            show(name, piece or "")
    return code


def _in_json(name: str, text: str) -> None:
    if text:
        print(json.dumps({"name": name, "text": text}), flush=True)


def _print(_name: str, text: str) -> None:
    print(text, end="", flush=True)


class _Filtered:
    """Hands on the text of each kernel without what would steer the terminal.

    Parameters
    ----------
    names : list of str
        The kernels; each has a stream of its own.
    show : callable
        Takes a kernel's name and a piece; an empty piece is the end of that kernel's output.
    """

    def __init__(self, names: list[str], show: Callable[[str, str], None]) -> None:
        self._streams = {name: TerminalText() for name in names}
        self._show = show

    def __call__(self, name: str, text: str) -> None:
        """Filter a piece and hand it on."""
        stream = self._streams[name]
        if shown := stream.feed(text) if text else stream.end():
            self._show(name, shown)
        if not text:
            self._show(name, "")

    def end(self) -> None:
        """End the colour that an unfinished stream has left on."""
        if any(stream.end().endswith(RESET) for stream in self._streams.values()):
            print(RESET, end="", flush=True)


class _Lines:
    """Prints whole lines of several kernels, each with the kernel's name before it.

    A carriage return would let a kernel write over its name, so it begins a line here, too.
    """

    def __init__(self, *, raw: bool) -> None:
        self._raw = raw
        self._started: dict[str, str] = {}  # of each kernel, a line that has no end yet

    def __call__(self, name: str, text: str) -> None:
        """Print the lines that a piece completes; an empty one completes the last."""
        *lines, rest = (self._started.pop(name, "") + text).split("\n")
        if not text and rest:
            lines, rest = [*lines, rest], ""
        self._started[name] = rest
        for line in lines:
            for part in (line,) if self._raw else line.rstrip("\r").split("\r"):
                print(f"{name}: {_uncoloured_at_end(part)}")
        print(end="", flush=True)


def _uncoloured_at_end(line: str) -> str:
    """Keep a line's colours from the next line, which may be another kernel's."""
    return line + RESET if ESCAPE in line and not line.endswith(RESET) else line


def _one_by_one(names: list[str], read: Callable[[str], Iterator[str]]) -> Iterator[Piece]:
    for name in names:
        try:
            for text in read(name):
                yield name, text
            yield name, None
        except KconndError as error:
            yield name, error


def _as_they_come(names: list[str], read: Callable[[str], Iterator[str]]) -> Iterator[Piece]:
    from queue import SimpleQueue  # noqa: PLC0415  # only for several
    from threading import Thread  # noqa: PLC0415  # the same

    pieces: SimpleQueue[Piece] = SimpleQueue()

    def follow(name: str) -> None:
        try:
            for text in read(name):
                if text:
                    pieces.put((name, text))
            pieces.put((name, None))
        except Exception as error:  # noqa: BLE001  # raised again where it can be seen
            pieces.put((name, error))

    for name in names:
        Thread(target=follow, args=(name,), daemon=True).start()
    left = len(names)
    while left:
        name, piece = pieces.get()
        left -= not isinstance(piece, str)
        yield name, piece


def events(arguments: list[str]) -> int:
    """Show what happened."""
    verb = parser(
        "events",
        "Show what happened to kernels since the daemon started.",
        "kconnd-ctl events -f mykernel",
        'one object a line: {"at", "kernel", "event", "message"}',
    )
    verb.add_argument("name", nargs="?", metavar="NAME", help="only this kernel's")
    verb.add_argument("-f", "--follow", action="store_true", help="go on with what comes")
    given = verb.parse_args(arguments)
    query = f"follow={int(given.follow)}" + (f"&kernel={quoted(given.name)}" if given.name else "")
    for one in client_for(given).stream(f"/v1/events?{query}"):
        line = f"{one['at']}  {one['kernel']}  {one['message']}"
        print(json.dumps(one) if given.json else plain(line), flush=True)
    return 0
