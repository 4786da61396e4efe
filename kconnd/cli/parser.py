"""argparse as ``kconnd-ctl`` uses it: for help, for faults, and for what is not plainly written.

Rule: `kconnd.cli.arguments` imports this when it is needed. argparse and the re under it would
cost every look-up six milliseconds.
"""

from __future__ import annotations

import argparse
import os

from kconnd.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


class ThoroughParser(argparse.ArgumentParser):
    """Tells faults as every other error, and takes options between names, too.

    Parameters
    ----------
    verb, about, epilog : str
        As its help has them.
    """

    def __init__(self, verb: str, about: str, epilog: str) -> None:
        super().__init__(
            f"kconnd-ctl {verb}", description=about, epilog=epilog, formatter_class=_formatter
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Read a verb's arguments."""
        given, rest = self.parse_known_args(args, namespace)
        # The other way takes 'a --json b', but lays out a usage text first.
        return self.parse_intermixed_args(args, namespace) if rest else given

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print."""
        raise UsageError(f"{self.prog}: {message}", hint=f"{self.prog} --help tells its use")


def _formatter(prog: str) -> argparse.HelpFormatter:
    """Format help for the terminal's width; argparse's own way to it imports shutil and bz2."""
    try:
        width = os.get_terminal_size().columns - 2
    except OSError:
        width = 98
    return argparse.RawDescriptionHelpFormatter(prog, width=max(width, 40))
