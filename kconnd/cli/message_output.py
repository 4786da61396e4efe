"""Prints the messages of a kernel for ``kconnd-ctl run``, as text or as one line of JSON each.

Output goes to stdout. Errors, prompts and the kernel's stderr go to stderr. The output of another
user's kernel is filtered, so that it cannot control the terminal.
"""

from __future__ import annotations

import json
import re
import sys

from kconnd.core.execution_outcome import is_exit, without_exit_advice
from kconnd.core.mime_bundle import text_of
from kconnd.core.terminal_text import TerminalText

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from kconnd.cli.saved_output import OutputFolder

KEYS = ("msg_type", "header", "parent_header", "metadata", "content")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class MessageOutput:
    """Prints messages.

    Parameters
    ----------
    as_json : bool
        Whether messages are printed as JSON. If so, everything else is printed on stderr.
    is_own : bool
        Whether the kernel belongs to the caller. If so, the output is not filtered.
    folder : OutputFolder, optional
        The folder in which images and HTML are saved; None if they are not saved.
    """

    def __init__(self, *, as_json: bool, is_own: bool, folder: OutputFolder | None) -> None:
        self._as_json, self._is_own, self._folder = as_json, is_own, folder
        self._filters: dict[TextIO, TerminalText] = {}

    def close(self) -> None:
        """Print the text that the filters still hold."""
        for stream, text in self._filters.items():
            print(text.end(), end="", file=stream, flush=True)

    def show(self, message: dict[str, Any], *, with_result: bool = True) -> None:
        """Print the output in a message from iopub; do nothing if the message has none.

        Parameters
        ----------
        message : dict
            The message.
        with_result : bool
            Whether the value of the last expression is printed.
        """
        kind, content = message["msg_type"], message["content"]
        if self._as_json:
            self.show_json(message)
        elif kind == "stream" and content["name"] == "stderr":
            self._print(without_exit_advice(content["text"]), sys.stderr)
        elif kind == "stream":
            self._print(content["text"], sys.stdout)
        elif kind == "display_data" or (kind == "execute_result" and with_result):
            self._show_bundle(content["data"])
        elif kind == "error" and not is_exit(content):
            self._show_error(content)

    def show_json(self, message: dict[str, Any]) -> None:
        """Print a message as JSON if ``as_json``, else do nothing."""
        if self._as_json:
            print(json.dumps({key: message[key] for key in KEYS}, default=str), flush=True)

    def show_prompt(self, text: str) -> None:
        """Print the prompt of ``input()``."""
        self._print(text, sys.stderr)

    def show_note(self, text: str) -> None:
        """Print a line on stderr, unless the text is empty."""
        if text:
            self._print(f"{text}\n", sys.stderr)

    def filtered(self, text: str, stream: TextIO) -> str:
        """Filter the text of another user's kernel, so that it cannot control the terminal."""
        if self._is_own:
            return text
        return self._filters.setdefault(stream, TerminalText()).feed(text)

    def _show_bundle(self, data: dict[str, Any]) -> None:
        paths = self._folder.save(data) if self._folder else []
        lines = [] if paths and "text/plain" not in data else [text_of(data)]
        for line in (*lines, *map(str, paths)):
            self._print(f"{line}\n", sys.stdout)

    def _show_error(self, content: dict[str, Any]) -> None:
        name, value = content["ename"], content["evalue"]
        text = "\n".join(content["traceback"]) or ": ".join(filter(None, (name, value)))
        self.show_note(text if sys.stderr.isatty() else _ANSI.sub("", text))

    def _print(self, text: str, stream: TextIO) -> None:
        print(self.filtered(text, stream), end="", file=stream, flush=True)
