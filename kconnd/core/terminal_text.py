"""Filters untrusted text for a terminal; only printable text, line ends and SGR colours pass.

A terminal executes escape sequences (ECMA-48, xterm's "Control Sequences"). An escape sequence can
set the terminal's title, write to the clipboard, insert input as if the user had typed it, or hide
text. The output of a kernel, the log of a kernel, and the replies of another owner's daemon are
therefore filtered before they are written to a terminal. `TerminalText` is the filter for all of
them.

How it works. Text consists of printable characters and control functions. Tab, line feed, carriage
return and control sequences for colours and weight (``CSI ... m``) pass. Any other sequence is
dropped completely, including its parameters. A lone control character, or a mark that reorders a
line (Unicode's bidirectional controls), becomes ``?``. A stream of text arrives in pieces. An
incomplete sequence at the end of a piece, up to a maximum length, is kept until the next piece
arrives.

`re` is imported at the first text with a control character, because most commands print no such
text.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would cost each command milliseconds
if TYPE_CHECKING:
    import re

MAX_PENDING_CHARACTERS = 4096  # a longer unfinished sequence is treated as plain text
ESCAPE = "\033"
RESET = "\033[0m"
SUBSTITUTE = "?"  # replaces a control character

# The allowed parameters: 0 resets all, 1 to 4, 7 and 9 set weight and lines, 21 to 29 reset weight
# and lines, 30 to 49 and 90 to 107 set colours. Blinking (5, 6), concealed text (8) and other fonts
# are not allowed.
_ATTRIBUTES = frozenset({0, 1, 2, 3, 4, 7, 9, *range(21, 30), *range(30, 50), *range(90, 108)})
# The number of parameters that follow 38;5 or 48;5 (an index), and 38;2 or 48;2 (red, green, blue).
_EXTENDED = {5: 1, 2: 3}
_compiled: list[tuple[re.Pattern[str], re.Pattern[str]]] = []


class TerminalText:
    """Filters a stream of text, which arrives in pieces.

    Parameters
    ----------
    colours : bool
        Whether SGR colours pass. If not, no escape sequence passes at all.
    """

    def __init__(self, *, colours: bool = True) -> None:
        self._colours = colours
        self._pending = ""
        self._coloured = False  # whether a colour is still on

    def feed(self, text: str) -> str:
        """Filter the next piece of the stream.

        Parameters
        ----------
        text : str
            The piece; it can begin and end within a sequence.

        Returns
        -------
        str
            The filtered text, which is safe to write to a terminal.
        """
        text = self._pending + text
        self._pending = ""
        if _is_harmless(text):
            return text
        if match := _patterns()[1].search(text):
            text, self._pending = text[: match.start()], match[0]
        return self._filter(text)

    def end(self) -> str:
        """Return the rest of the stream; if a colour is still on, the rest ends with a reset."""
        tail, self._pending = self._filter(self._pending), ""
        reset, self._coloured = RESET if self._coloured else "", False
        return tail + reset

    def _filter(self, text: str) -> str:
        return _patterns()[0].sub(self._replacement, text)

    def _replacement(self, match: re.Match[str]) -> str:
        sequence = match[0]
        if sequence in "\t\n\r":
            return sequence
        if match["sgr"] is not None:
            if not (self._colours and is_colour(match["sgr"])):
                return ""
            self._coloured = not _is_reset(match["sgr"])
            return sequence
        return "" if len(sequence) > 1 else SUBSTITUTE


def clean(text: str, *, colours: bool = False) -> str:
    """Filter a complete text, by default without colours."""
    stream = TerminalText(colours=colours)
    return stream.feed(text) + stream.end()


def is_colour(parameters: str) -> bool:
    """Return whether the parameters of an SGR sequence set nothing but colours and weight.

    Parameters
    ----------
    parameters : str
        The text between ``CSI`` and ``m``: ``1;31``, ``38;5;208``, ``38:2::255:0:0``.
    """
    words = iter(parameters.split(";"))
    for word in words:
        code, _, sub = word.partition(":")
        number = int(code or 0) if len(code) <= 3 else -1  # noqa: PLR2004  # no code has four digits
        if number not in _ATTRIBUTES:
            return False
        if number in {38, 48} and not sub:
            kind = int(next(words, "") or 0)
            if kind not in _EXTENDED:
                return False
            for _ in range(_EXTENDED[kind]):
                next(words, "")
    return True


def _is_reset(parameters: str) -> bool:
    return parameters.rpartition(";")[2] in {"", "0", "00"}


def _is_harmless(text: str) -> bool:
    """Return whether a quick check shows that a text needs no filter."""
    return text.isprintable() or text.replace("\n", "").isprintable()


def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of a complete and of an incomplete control function; compile them once.

    Sources: ECMA-48, sections 5.3 to 5.6; for control strings such as OSC, also xterm's "Control
    Sequences".
    """
    if not _compiled:
        import re  # noqa: PLC0415  # see the head of this file

        csi = r"(?:\x1b\[|\x9b)"
        body = rf"[^\x00-\x1f\x7f-\x9f]{{0,{MAX_PENDING_CHARACTERS}}}"
        string = rf"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f]){body}"
        whole = re.compile(
            rf"{csi}(?P<sgr>[0-9;:]{{0,64}})m"
            rf"|{csi}[0-?]{{0,64}}[ -/]{{0,8}}[@-~]"
            rf"|{string}(?:\x07|\x1b\\|\x9c)"
            r"|\x1b[ -/]{1,8}[0-~]"
            r"|\x1b[0-Z\\`-~]"
            r"|[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
        )
        cut = re.compile(rf"(?:{csi}[0-?]{{0,64}}[ -/]{{0,8}}|{string}\x1b?|\x1b[ -/]{{0,8}})\Z")
        _compiled.append((whole, cut))
    return _compiled[0]
