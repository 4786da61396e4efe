"""What the verbs share: their options, the names they get, and trying each of several."""

from __future__ import annotations

import argparse
import os

from kconnd.client import Client, find_socket
from kconnd.errors import KconndError, NoSuchKernelError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, NoReturn

    Failures = list[tuple[str, KconndError]]

WILD = frozenset("*?[")
SIDE_BY_SIDE = 32  # connections at a time; the daemon takes 128 of a user


class Parser(argparse.ArgumentParser):
    """Tells faults as every other error, and takes options between names, too."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Read a verb's arguments."""
        given, rest = self.parse_known_args(args, namespace)
        # The other way takes 'a --json b', but lays out a usage text first.
        return self.parse_intermixed_args(args, namespace) if rest else given

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print."""
        raise UsageError(f"{self.prog}: {message}", hint=f"{self.prog} --help tells its use")


def parser(verb: str, about: str, example: str = "", answer: str = "") -> Parser:
    """Make the parser of one verb, with the options that every verb has.

    Parameters
    ----------
    verb : str
        Its name.
    about : str
        What it does, for people.
    example : str
        A line to copy.
    answer : str
        What ``--json`` gives; its fields are only ever added to.
    """
    parts = (("example", example), ("with --json", answer))
    found = Parser(
        f"kconnd-ctl {verb}",
        description=about,
        epilog="\n".join(f"{title}:\n  {text}" for title, text in parts if text),
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


def add_names(found: argparse.ArgumentParser, *, least: int = 1) -> None:
    """Let a verb take kernels' names."""
    nargs = "+" if least else "*"
    found.add_argument("names", nargs=nargs, metavar="NAME", help="a kernel, or a pattern: 'lab*'")


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


def each(names: list[str], act: Callable[[str], Any], done: Callable[[Any], object]) -> Failures:
    """Do something for each of several kernels, side by side, and tell each failure.

    Parameters
    ----------
    names : list of str
        Kernels, each once.
    act : callable
        What to do for a name.
    done : callable
        Gets what `act` returned, in the order of the names.

    Returns
    -------
    list of tuple
        The names that failed, each with its error.
    """
    failures = []
    for name, outcome in _outcomes(names, act):
        if isinstance(outcome, KconndError):
            from kconnd.cli.main import tell  # noqa: PLC0415  # it imports this module's verbs

            tell(outcome)
            failures.append((name, outcome))
        elif isinstance(outcome, Exception):
            raise outcome
        else:
            done(outcome)
    return failures


def exit_code(failures: Failures) -> int:
    """Give the exit code for several names: that of the first failure."""
    return failures[0][1].exit_code if failures else 0


def errors_in_json(failures: Failures) -> list[dict[str, str]]:
    """Give failures for programs."""
    from kconnd.cli.main import in_json  # noqa: PLC0415  # it imports this module's verbs

    return [{"name": name, **in_json(error)} for name, error in failures]


def _outcomes(names: list[str], act: Callable[[str], Any]) -> Iterator[tuple[str, Any]]:
    """Give what came of each name: a value, or the exception that it ended in."""

    def attempt(name: str) -> Any:
        try:
            return act(name)
        except Exception as error:  # noqa: BLE001  # it is raised again where it can be seen
            return error

    if len(names) == 1:
        yield names[0], attempt(names[0])
        return
    from queue import SimpleQueue  # noqa: PLC0415  # only for several
    from threading import Thread  # noqa: PLC0415  # the same

    waiting = iter(names)
    outcomes: dict[str, SimpleQueue[Any]] = {name: SimpleQueue() for name in names}

    def work() -> None:
        for name in waiting:
            outcomes[name].put(attempt(name))

    for _ in range(min(len(names), SIDE_BY_SIDE)):
        Thread(target=work, daemon=True).start()  # daemon: Ctrl-C waits for none of them
    for name in names:
        yield name, outcomes[name].get()
