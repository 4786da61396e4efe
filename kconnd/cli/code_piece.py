"""The pieces of code that ``kconnd-ctl run`` executes, read from the command line and a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kconnd.core.python_script import script_preparation
from kconnd.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from kconnd.cli.command_line import Arguments

STDIN = "-"


class CodePiece:
    """A piece of code to execute, such as the value of an option ``-c``.

    Attributes
    ----------
    code : str
        The code.
    with_result : bool
        Whether the value of the code's last expression is printed.
    """

    with_result = True

    def __init__(self, code: str) -> None:
        self.code = code

    def preparation(self, language: str, session: str) -> str:  # noqa: ARG002  # Script needs both
        """Return the code that must be executed before this code; ``""`` if none is needed."""
        return ""

    def must_be_prepared(self) -> bool:
        """Return whether this code must not be executed if its preparation fails."""
        return False


class Script(CodePiece):
    """A script, which is a file of code, and the arguments of the script.

    Parameters
    ----------
    path : str
        The path of the file, or `STDIN`.
    arguments : sequence of str
        The arguments of the script.

    Raises
    ------
    UsageError
        If the file cannot be read.
    """

    with_result = False

    def __init__(self, path: str, arguments: Sequence[str]) -> None:
        super().__init__(_read_code(path))
        self._path, self._arguments = path, arguments

    def preparation(self, language: str, session: str) -> str:
        """Return the code that sets ``sys.argv`` and ``__file__`` on a Python kernel.

        ``__file__`` is an absolute path, because the kernel has another working directory.

        Parameters
        ----------
        language : str
            The language of the kernel; ``""`` if it is unknown.
        session : str
            The session id in the headers of the requests that execute the script.

        Raises
        ------
        UsageError
            If the script has arguments and the kernel is not a Python kernel.
        """
        if language == "python":
            path = self._path if self._path == STDIN else os.path.abspath(self._path)  # noqa: PTH100  # no link is resolved
            return script_preparation(session, path, [self._path, *self._arguments])
        if self._arguments:
            raise UsageError(
                f"run: {self._arguments[0]!r} is an argument of {self._path}, and only a Python "
                f"kernel takes arguments; this is a kernel of {language or 'an unknown language'}",
                hint="options of kconnd-ctl stand before FILE",
            )
        return ""

    def must_be_prepared(self) -> bool:
        """Return whether the script has arguments."""
        return bool(self._arguments)


def pieces_of(arguments: Arguments) -> list[CodePiece]:
    """Read all code of a command line.

    Raises
    ------
    UsageError
        If the command line contains no code, or if the file cannot be read.
    """
    pieces = [CodePiece(code) for code in arguments.code]
    if arguments.file is not None:
        pieces.append(Script(arguments.file, arguments.passed_words))
    if not pieces:
        raise UsageError("run: FILE or -c CODE is missing", hint="kconnd-ctl help run describes it")
    return pieces


def _read_code(path: str) -> str:
    if path == STDIN:
        return sys.stdin.read()
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"reading {path}: {reason}") from None
