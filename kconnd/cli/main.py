"""``kconnd-ctl``: parses the command line by the grammar, then imports and runs the verb.

Rules. Look-ups must be fast, so each module is imported where it is needed. An error is printed on
stderr as a sentence and a hint, and the class of the error determines the exit code. With
``--json``, all of stdout is JSON. In this case, an error that ends the verb is also printed on
stdout, as one line ``{"error": {"code", "message", "hint", "output"}}``.
"""

from __future__ import annotations

import gc
import io
import os
import sys

from kconnd.cli.command_line import parse_arguments, split_at_verb
from kconnd.cli.grammar import VERBS
from kconnd.errors import KconndError, UsageError

TYPE_CHECKING = False  # importing typing would take five milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from kconnd.cli.command_line import Arguments
    from kconnd.cli.grammar import Verb

INTERRUPTED = 130  # the exit code after Ctrl-C


def main(words: list[str] | None = None) -> int:
    """Run ``kconnd-ctl``; see ``kconnd-ctl --help``.

    Returns
    -------
    int
        The exit code of the verb, the exit code of an error (`kconnd.errors`), or 130 after Ctrl-C.
    """
    words = sys.argv[1:] if words is None else list(words)
    try:
        with _SafeStdout():
            return _run_and_report(words)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader has closed the pipe: kconnd-ctl logs NAME | head
        _discard_stdout()
        return 0
    except OSError as error:  # of stdout; a connection raises UnreachableError
        _discard_stdout()
        _report(KconndError(f"writing to stdout: {error.strerror}"))
        return KconndError.exit_code


def run() -> NoReturn:
    """Run ``kconnd-ctl`` as a process and exit.

    `main` has flushed stdout, so the process can exit without finalizing the interpreter.
    Finalizing would take a seventh of the time of a look-up, and could wait for threads that are
    still reading. A high threshold of the garbage collector prevents collections during imports.
    This saves a twentieth of the time of verbs with many imports.
    """
    gc.set_threshold(100_000)
    os._exit(main())


def _run_and_report(words: list[str]) -> int:
    try:
        return _run(words)
    except KconndError as error:
        _report(error)
        if "--json" in words:
            import json  # noqa: PLC0415  # for errors only

            from kconnd.cli.error_output import error_to_json  # noqa: PLC0415  # for errors only

            print(json.dumps({"error": error_to_json(error)}))
        return error.exit_code


def _report(error: KconndError) -> None:
    from kconnd.cli.error_output import print_error  # noqa: PLC0415  # for errors only

    print_error(error)


def _run(words: list[str]) -> int:
    options, rest = split_at_verb(words)
    if not {"-h", "--help"}.isdisjoint(options):
        print(_overview())
        return 0
    if "--version" in options:
        from kconnd import __version__  # noqa: PLC0415  # for this option only

        print(f"kconnd-ctl {__version__}")
        return 0
    if not rest:
        print(_overview(), file=sys.stderr)
        return UsageError.exit_code
    verb = _find_verb(rest[0])
    arguments = parse_arguments(verb, [*options, *rest[1:]])
    if arguments.help:
        from kconnd.cli.help_text import terminal_columns, verb_help  # noqa: PLC0415  # for help only

        print(verb_help(verb, terminal_columns(os.environ)))
        return 0
    return _handler_of(verb)(arguments)


def _overview() -> str:
    from kconnd.cli.help_text import overview, terminal_columns  # noqa: PLC0415  # for help only

    return overview(terminal_columns(os.environ))


def _find_verb(word: str) -> Verb:
    if word in VERBS:
        return VERBS[word]
    from kconnd.cli.suggestions import unknown_verb  # noqa: PLC0415  # for this error only

    raise unknown_verb(word)


def _handler_of(verb: Verb) -> Callable[[Arguments], int]:
    """Import the function that runs a verb."""
    module, _, function = verb.handler.partition(":")
    __import__(f"kconnd.cli.{module}")
    handler: Callable[[Arguments], int] = getattr(sys.modules[f"kconnd.cli.{module}"], function)
    return handler


class _SafeStdout:
    """Escapes characters that stdout cannot encode, and flushes stdout at the end."""

    def __enter__(self) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Characters that the encoding of stdout lacks are escaped instead of raising an error.
            sys.stdout.reconfigure(errors="backslashreplace")

    def __exit__(self, *_: object) -> None:
        if sys.stdout is not None:  # it is None if the caller has closed stdout
            sys.stdout.flush()


def _discard_stdout() -> None:
    """Redirect stdout to /dev/null, so that Python's flush at exit does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    run()
