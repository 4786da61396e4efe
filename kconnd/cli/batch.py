"""Sends requests about several kernels concurrently, and collects the failures."""

from __future__ import annotations

import os

from kconnd.cli import render
from kconnd.client import Client, find_socket, kernel_path
from kconnd.errors import KconndError, NoSuchKernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from kconnd.cli.command_line import Arguments

    Failures = list[tuple[str, KconndError]]

WILDCARDS = frozenset("*?[")
MAX_CONNECTIONS = 32  # concurrent connections; the daemon accepts 128 per user


def client_for(arguments: Arguments) -> Client:
    """Create a client for the socket that an option or an environment variable names."""
    return Client(find_socket(os.environ, arguments.socket))


def is_pattern(name: str) -> bool:
    """Return whether a name is a shell pattern."""
    return not WILDCARDS.isdisjoint(name)


def expand_patterns(client: Client, names: Iterable[str]) -> list[str]:
    """Replace each pattern by the names of the matching kernels; drop duplicates.

    Jupyter's name of a kernel spec can contain wildcards. It means the kernel of this spec.

    Raises
    ------
    NoSuchKernelError
        If a pattern matches no kernel.
    """
    names = list(names)
    if not any(map(is_pattern, names)):
        return list(dict.fromkeys(names))
    from fnmatch import fnmatchcase  # noqa: PLC0415  # for patterns only

    kernels = client.get("/v1/kernels")["kernels"]
    by_spec = {kernel.get("jupyter_name"): kernel["name"] for kernel in kernels}
    expanded: dict[str, None] = {}
    for name in names:
        matches = [name]
        if is_pattern(name):
            known = [kernel["name"] for kernel in kernels]
            spec = by_spec.get(name.lower())
            matches = [spec] if spec else [kernel for kernel in known if fnmatchcase(kernel, name)]
            matches = matches or _spec_with_wildcards(client, name)
        if not matches:
            raise NoSuchKernelError(
                f"no kernel matches {name!r}", hint="kconnd-ctl list shows all kernels"
            )
        expanded.update(dict.fromkeys(matches))
    return list(expanded)


def _spec_with_wildcards(client: Client, name: str) -> list[str]:
    """Return the kernel of an installed kernel spec if a name with wildcards is its own name."""
    try:
        return [client.get(kernel_path(name))["name"]]
    except KconndError:
        return []


def run_for_each(
    names: list[str], request: Callable[[str], Any], on_success: Callable[[Any], object]
) -> Failures:
    """Send the requests about several kernels concurrently, and print each failure.

    Parameters
    ----------
    names : list of str
        The names of kernels, without duplicates.
    request : callable
        A function that takes a kernel's name, sends the request about this kernel, and returns the
        reply.
    on_success : callable
        A function that is called with each reply, in the order of the names.

    Returns
    -------
    list of tuple
        The names of the kernels whose requests failed, each with the error.
    """
    failures = []
    for name, outcome in outcomes_of(names, request):
        if isinstance(outcome, KconndError):
            from kconnd.cli.error_output import print_error  # noqa: PLC0415  # for failures only

            print_error(outcome)
            failures.append((name, outcome))
        elif isinstance(outcome, Exception):
            raise outcome
        else:
            on_success(outcome)
    return failures


def exit_code_of(failures: Failures) -> int:
    """Return the exit code of a verb: the code of the first failure, or 0 without failures."""
    return failures[0][1].exit_code if failures else 0


def failures_to_json(failures: Failures) -> list[dict[str, str]]:
    """Convert failures to the objects that ``--json`` prints."""
    from kconnd.cli.error_output import error_to_json  # noqa: PLC0415  # for --json only

    return [{"name": name, **error_to_json(error)} for name, error in failures]


def outcomes_of(names: list[str], request: Callable[[str], Any]) -> Iterator[tuple[str, Any]]:
    """Send requests concurrently; yield each name with the reply or, on failure, the exception."""

    def attempt(name: str) -> Any:
        try:
            return request(name)
        except Exception as error:  # noqa: BLE001  # run_for_each raises or prints it
            return error

    if len(names) == 1:
        yield names[0], attempt(names[0])
        return
    from queue import SimpleQueue  # noqa: PLC0415  # for several kernels only
    from threading import Thread  # noqa: PLC0415  # for several kernels only

    pending = iter(names)
    outcomes: dict[str, SimpleQueue[Any]] = {name: SimpleQueue() for name in names}

    def work() -> None:
        for name in pending:
            outcomes[name].put(attempt(name))

    for _ in range(min(len(names), MAX_CONNECTIONS)):
        # This is a daemon thread, so that the exit after Ctrl-C does not wait for it.
        Thread(target=work, daemon=True).start()
    for name in names:
        yield name, outcomes[name].get()


def get_each(arguments: Arguments, verb: str, query: str = "") -> tuple[list[dict[str, Any]], int]:
    """Look up kernels; with ``--json``, also print the reply, or several replies as a list.

    Returns
    -------
    tuple
        The replies, safe to print on a terminal, and the exit code.
    """
    client = client_for(arguments)
    names: list[str] = arguments.names
    if len(names) == 1 and not is_pattern(names[0]):
        reply: dict[str, Any] = client.get(kernel_path(names[0], verb) + query)
        if arguments.json:
            render.print_json(reply)
        return [render.printable(reply)], 0
    replies: list[dict[str, Any]] = []
    names = expand_patterns(client, names)

    def look_up(name: str) -> Any:
        return client.get(kernel_path(name, verb) + query)

    failures = run_for_each(names, look_up, replies.append)
    if arguments.json:
        render.print_json(replies)
    return render.printable(replies), exit_code_of(failures)
