"""The verbs that print as things come: logs and events.

Rules: only the main thread prints, so that Ctrl-C and a closed pipe end it at once; lines of
several kernels never mix.
"""

from __future__ import annotations

import json

from kconnd.cli.arguments import add_names, client_for, expand, parser
from kconnd.cli.show import plain
from kconnd.client import kernel_path, quoted
from kconnd.errors import KconndError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Piece = tuple[str, str | Exception | None]  # a kernel and text, how it failed, or the end


def logs(arguments: list[str]) -> int:
    """Show kernels' output."""
    verb = parser(
        "logs",
        "Show what kernels wrote to their output; several names go before their lines.",
        "kconnd-ctl logs -f mykernel",
        'one object a line: {"name", "text"}; text may hold several lines',
    )
    add_names(verb)
    verb.add_argument("-n", "--lines", type=int, default=100, metavar="N", help="how many lines")
    verb.add_argument("-f", "--follow", action="store_true", help="go on with what comes")
    given = verb.parse_args(arguments)
    client = client_for(given)
    names = expand(client, given.names)
    query = f"lines={given.lines}&follow={int(given.follow)}"

    def read(name: str) -> Iterator[str]:
        return (one["text"] for one in client.stream(f"{kernel_path(name, 'logs')}?{query}"))

    together = given.follow and len(names) > 1
    pieces = _as_they_come(names, read) if together else _one_by_one(names, read)
    return _copy(pieces, _in_json if given.json else _Lines(names))


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


class _Lines:
    """Prints pieces of text: as they are for one kernel, whole lines with names for several."""

    def __init__(self, names: list[str]) -> None:
        self._begun = dict.fromkeys(names, "") if len(names) > 1 else None

    def __call__(self, name: str, text: str) -> None:
        """Print a piece; an empty one is the end of that kernel's output."""
        if self._begun is None:
            print(text, end="", flush=True)
            return
        whole, newline, begun = (self._begun[name] + text).rpartition("\n")
        if not text and begun:  # a last line without an end
            whole, newline, begun = whole + newline + begun, "\n", ""
        self._begun[name] = begun
        for line in whole.split("\n") if newline else ():
            print(f"{name}: {line}")
        print(end="", flush=True)


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
