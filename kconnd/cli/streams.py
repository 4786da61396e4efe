"""The verbs that print a stream of lines: ``logs`` and ``events``.

Rules. All printing is done in the main thread, so that Ctrl-C and a closed pipe end the verb at
once. A printed line contains the output of one kernel only. Control sequences in a log are filtered
(`kconnd.core.terminal_text`).
"""

from __future__ import annotations

import json

from kconnd.cli.batch import client_for, expand_patterns
from kconnd.cli.render import plain
from kconnd.client import kernel_path
from kconnd.core.protocol.request_head import quote
from kconnd.core.terminal_text import ESCAPE, RESET, TerminalText
from kconnd.errors import KconndError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kconnd.cli.command_line import Arguments

    # An item is the name of a kernel, and one of three things: a piece of the kernel's output, an
    # error of its stream, or None at the end of its stream.
    Piece = tuple[str, str | Exception | None]


def logs(arguments: Arguments) -> int:
    """Print the output of kernels."""
    client = client_for(arguments)
    names = expand_patterns(client, arguments.names)
    query = f"lines={arguments.lines}&follow={int(arguments.follow)}"

    def read(name: str) -> Iterator[str]:
        stream = client.stream(f"{kernel_path(name, 'logs')}?{query}")
        return (line["text"] for line in stream)

    side_by_side = arguments.follow and len(names) > 1
    pieces = _read_side_by_side(names, read) if side_by_side else _read_in_turn(names, read)
    show = _print_as_json if arguments.json else _make_printer(names, raw=arguments.raw)
    try:
        return _print_pieces(pieces, show)
    finally:  # Ctrl-C can end `logs -f` within a coloured line; reset the colour
        if isinstance(show, _Filtered):
            show.end()


def events(arguments: Arguments) -> int:
    """Print the events of kernels."""
    query = f"follow={int(arguments.follow)}"
    query += f"&kernel={quote(arguments.name)}" if arguments.name else ""
    for event in client_for(arguments).stream(f"/v1/events?{query}"):
        line = f"{event['at']}  {event['kernel']}  {event['message']}"
        print(json.dumps(event) if arguments.json else plain(line), flush=True)
    return 0


def _make_printer(names: list[str], *, raw: bool) -> Callable[[str, str], None]:
    show = _PrefixedLines(raw=raw) if len(names) > 1 else _print
    return show if raw else _Filtered(names, show)


def _print_pieces(pieces: Iterable[Piece], show: Callable[[str, str], None]) -> int:
    exit_code = 0
    for name, piece in pieces:
        if isinstance(piece, KconndError):
            from kconnd.cli.error_output import print_error  # noqa: PLC0415  # for failures only

            print_error(piece)
            exit_code = exit_code or piece.exit_code
        elif isinstance(piece, Exception):
            raise piece
        else:
            show(name, piece or "")
    return exit_code


def _print_as_json(name: str, text: str) -> None:
    if text:
        print(json.dumps({"name": name, "text": text}), flush=True)


def _print(_name: str, text: str) -> None:
    print(text, end="", flush=True)


class _Filtered:
    """Filters the control sequences in the output of each kernel.

    Parameters
    ----------
    names : list of str
        The names of the kernels. Each kernel has its own filter, because a control sequence can
        span several pieces of one kernel's output.
    show : callable
        A function that receives the name of a kernel and a filtered piece of the kernel's output.
        An empty piece marks the end of the output.
    """

    def __init__(self, names: list[str], show: Callable[[str, str], None]) -> None:
        self._filters = {name: TerminalText() for name in names}
        self._show = show

    def __call__(self, name: str, text: str) -> None:
        """Filter a piece of a kernel's output, and show the result."""
        text_filter = self._filters[name]
        if shown := text_filter.feed(text) if text else text_filter.end():
            self._show(name, shown)
        if not text:
            self._show(name, "")

    def end(self) -> None:
        """Reset the terminal's colours if an unfinished output has changed them."""
        if any(text_filter.end().endswith(RESET) for text_filter in self._filters.values()):
            print(RESET, end="", flush=True)


class _PrefixedLines:
    """Prints whole lines of several kernels; each line begins with the name of its kernel.

    Unless ``raw`` is true, a carriage return is treated as the end of a line, so that a kernel
    cannot overwrite the printed name.
    """

    def __init__(self, *, raw: bool) -> None:
        self._raw = raw
        self._unfinished: dict[str, str] = {}  # the incomplete last line of each kernel

    def __call__(self, name: str, text: str) -> None:
        """Print the lines that a piece completes; an empty piece completes an unfinished line."""
        *lines, unfinished = (self._unfinished.pop(name, "") + text).split("\n")
        if not text and unfinished:
            lines, unfinished = [*lines, unfinished], ""
        self._unfinished[name] = unfinished
        for line in lines:
            for part in (line,) if self._raw else line.rstrip("\r").split("\r"):
                print(f"{name}: {_reset_at_end(part)}")
        print(end="", flush=True)


def _reset_at_end(line: str) -> str:
    """Reset the colour at the end of a line, because the next line can be another kernel's."""
    return line + RESET if ESCAPE in line and not line.endswith(RESET) else line


def _read_in_turn(names: list[str], read: Callable[[str], Iterator[str]]) -> Iterator[Piece]:
    for name in names:
        try:
            for text in read(name):
                yield name, text
            yield name, None
        except KconndError as error:
            yield name, error


def _read_side_by_side(names: list[str], read: Callable[[str], Iterator[str]]) -> Iterator[Piece]:
    from queue import SimpleQueue  # noqa: PLC0415  # for several kernels only
    from threading import Thread  # noqa: PLC0415  # for several kernels only

    pieces: SimpleQueue[Piece] = SimpleQueue()

    def follow(name: str) -> None:
        try:
            for text in read(name):
                if text:
                    pieces.put((name, text))
            pieces.put((name, None))
        except Exception as error:  # noqa: BLE001  # _print_pieces raises or prints it
            pieces.put((name, error))

    for name in names:
        Thread(target=follow, args=(name,), daemon=True).start()
    open_streams = len(names)
    while open_streams:
        name, piece = pieces.get()
        open_streams -= not isinstance(piece, str)
        yield name, piece
