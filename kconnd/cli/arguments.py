"""What the verbs share: their options, the names they get, and trying each of several."""

from __future__ import annotations

import os

from kconnd.client import Client, find_socket
from kconnd.errors import KconndError, NoSuchKernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from kconnd.cli.parser import ThoroughParser

    Failures = list[tuple[str, KconndError]]

SIMPLE = frozenset({"dest", "default", "metavar", "nargs", "help"})  # what a plain one may have
COUNTS = {"": (1, 1), "?": (0, 1), "+": (1, float("inf")), "*": (0, float("inf"))}  # by nargs
MANY = frozenset("+*")
WILD = frozenset("*?[")
SIDE_BY_SIDE = 32  # connections at a time; the daemon takes 128 of a user


class Given:
    """What was given for a verb, each value by its name."""

    def __init__(self, values: dict[str, Any]) -> None:
        vars(self).update(values)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...


class Parser:
    """Reads the arguments of one verb.

    Nearly always they are plain: names, flags, and options that are followed by their value.
    Those are read here. All else, help and faults too, is argparse's, which gets the same
    arguments to know; it alone would cost a look-up more than the rest of its way.

    Parameters
    ----------
    verb, about, epilog : str
        As its help has them.
    """

    def __init__(self, verb: str, about: str, epilog: str) -> None:
        self._head = (verb, about, epilog)
        self._arguments: list[tuple[tuple[str, ...], dict[str, Any]]] = []
        self._values: dict[str, Any] = {}  # where nothing is given
        self._flags: dict[str, str] = {}  # what is written, and the name of its value
        self._options: dict[str, str] = {}  # the same for what is followed by a value
        self._positional: list[tuple[str, str]] = []
        self._is_plain = True

    def add_argument(self, *written: str, **how: Any) -> None:
        """Know one argument more; see `argparse.ArgumentParser.add_argument`."""
        self._arguments.append((written, how))
        name = how.get("dest") or max(written, key=len).lstrip("-").replace("-", "_")
        is_flag = how.get("action") == "store_true"
        self._values[name] = how.get("default", False if is_flag else None)
        if not written[0].startswith("-"):
            self._positional.append((name, how.get("nargs", "")))
            self._is_plain &= len(self._positional) == 1 and how.keys() <= SIMPLE
        elif is_flag:
            self._flags.update(dict.fromkeys(written, name))
        elif how.keys() <= SIMPLE:
            self._options.update(dict.fromkeys(written, name))
        self._is_plain &= "required" not in how

    def parse_args(self, arguments: list[str]) -> Given:
        """Read them.

        Raises
        ------
        UsageError
            If they make no sense.
        """
        return self._plainly(arguments) or Given(vars(self.thorough().parse_args(arguments)))

    def thorough(self) -> ThoroughParser:
        """Give argparse's parser of the same arguments."""
        from kconnd.cli.parser import ThoroughParser  # noqa: PLC0415  # it imports argparse

        found = ThoroughParser(*self._head)
        for written, how in self._arguments:
            found.add_argument(*written, **how)
        return found

    def _plainly(self, arguments: list[str]) -> Given | None:
        """Read arguments that are plain; None where one may be something else."""
        values, names = dict(self._values), []
        words = iter(arguments)
        for word in words:
            if not word.startswith("-"):
                names.append(word)
            elif word in self._flags:
                values[self._flags[word]] = True
            elif word in self._options and not (value := next(words, "-")).startswith("-"):
                values[self._options[word]] = value
            else:
                return None
        for name, nargs in self._positional:
            if nargs in MANY:
                values[name] = names
            elif names:
                values[name] = names[0]
        least, most = self._counts()
        return Given(values) if self._is_plain and least <= len(names) <= most else None

    def _counts(self) -> tuple[float, float]:
        """Tell how many names there have to be, and may be."""
        return COUNTS[self._positional[0][1]] if self._positional else (0, 0)


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
    epilog = "\n".join(f"{title}:\n  {text}" for title, text in parts if text)
    found = Parser(verb, about, epilog)
    found.add_argument("--json", action="store_true", help="JSON on stdout, and nothing else")
    found.add_argument("--socket", default="", metavar="PATH", help="the daemon's socket")
    return found


def add_names(found: Parser, *, least: int = 1) -> None:
    """Let a verb take kernels' names."""
    nargs = "+" if least else "*"
    found.add_argument("names", nargs=nargs, metavar="NAME", help="a kernel, or a pattern: 'lab*'")


def client_for(given: Given) -> Client:
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
