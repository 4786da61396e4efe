"""Prints errors: as text on stderr, or as JSON for programs."""

from __future__ import annotations

import sys

from kconnd.cli.render import last_words, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kconnd.errors import KconndError


def print_error(error: KconndError) -> None:
    """Print an error on stderr: the message, the last output of the kernel, and the hint."""
    print(f"kconnd-ctl: {printable(error.message)}", file=sys.stderr)
    if error.output:
        for line in last_words(error.output.rstrip("\n")):
            print(f"  | {line}", file=sys.stderr)
    if error.hint:
        print(f"  {printable(error.hint)}", file=sys.stderr)


def error_to_json(error: KconndError) -> dict[str, str]:
    """Convert an error to the fields of an error reply of the daemon."""
    return {
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "output": error.output,
    }
