"""What the verbs share: their options, the names they get, and trying each of several."""

from __future__ import annotations

import argparse
import os
import sys

from kconnd.client import Client, find_socket
from kconnd.errors import KconndError, NoSuchKernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

WILD = frozenset("*?[")


def parser(verb: str, about: str, example: str = "") -> argparse.ArgumentParser:
    """Make the parser of one verb, with the options that every verb has.

    Parameters
    ----------
    verb : str
        Its name.
    about : str
        What it does, for people.
    example : str
        A line to copy.
    """
    found = argparse.ArgumentParser(
        f"kconnd-ctl {verb}",
        description=about,
        epilog=example and f"example:\n  {example}",
        formatter_class=_formatter,
    )
    found.add_argument("--json", action="store_true", help="JSON on stdout, and nothing else")
    found.add_argument("--socket", default="", metavar="PATH", help="the daemon's socket")
    return found


def _formatter(prog: str) -> argparse.HelpFormatter:
    """Format help for the terminal's width; argparse's own way to it imports shutil and bz2."""
    try:
        width = os.get_terminal_size().columns - 2
    except OSError:
        width = 98
    return argparse.RawDescriptionHelpFormatter(prog, width=max(width, 40))


def add_names(found: argparse.ArgumentParser) -> None:
    """Let a verb take kernels' names."""
    found.add_argument("names", nargs="+", metavar="NAME", help="a kernel, or a pattern: 'lab*'")


def client_for(given: argparse.Namespace) -> Client:
    """Make a client for the socket that the options or the environment name."""
    return Client(find_socket(os.environ, given.socket))


def is_pattern(name: str) -> bool:
    """Tell whether a name stands for several kernels."""
    return not WILD.isdisjoint(name)


def expand(client: Client, names: Iterable[str]) -> list[str]:
    """Replace patterns by the kernels that they fit, each kernel once.

    Raises
    ------
    NoSuchKernelError
        If a pattern fits none.
    """
    names = list(names)
    if not any(map(is_pattern, names)):
        return list(dict.fromkeys(names))
    from fnmatch import fnmatchcase  # noqa: PLC0415  # only for patterns

    known = [kernel["name"] for kernel in client.get("/v1/kernels")["kernels"]]
    found: dict[str, None] = {}
    for name in names:
        fitting = [one for one in known if fnmatchcase(one, name)] if is_pattern(name) else [name]
        if not fitting:
            raise NoSuchKernelError(
                f"no kernel fits {name!r}", hint="kconnd-ctl list shows what there is"
            )
        found.update(dict.fromkeys(fitting))
    return list(found)


def each(names: list[str], act: Callable[[str], Any], done: Callable[[str, Any], None]) -> int:
    """Do something for each of several kernels, side by side, and report each failure.

    Returns
    -------
    int
        The exit code: that of the first failure, in the order of the names.
    """
    code = 0
    for name, outcome in _outcomes(names, act):
        if isinstance(outcome, KconndError):
            from kconnd.cli.main import tell  # noqa: PLC0415  # it imports this module's verbs

            tell(outcome)
            code = code or outcome.exit_code
        else:
            done(name, outcome)
    sys.stdout.flush()
    return code


def _outcomes(names: list[str], act: Callable[[str], Any]) -> Iterable[tuple[str, Any]]:
    def attempt(name: str) -> Any:
        try:
            return act(name)
        except KconndError as error:
            return error

    if len(names) == 1:
        return [(names[0], attempt(names[0]))]
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # only for several

    with ThreadPoolExecutor(max_workers=min(len(names), 32)) as pool:
        return list(zip(names, pool.map(attempt, names), strict=True))
