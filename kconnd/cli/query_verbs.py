"""Verbs that only read: why, wait, connection, profiles, health."""

from __future__ import annotations

import time

from kconnd.cli import render
from kconnd.cli.batch import (
    client_for,
    exit_code_of,
    expand_patterns,
    failures_to_json,
    get_each,
    run_for_each,
)
from kconnd.client import kernel_path
from kconnd.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kconnd.cli.command_line import Arguments

MAX_WAIT_S = 1e9  # the daemon does not accept infinity


def why(arguments: Arguments) -> int:
    """Print the latest decisions about kernels."""
    replies, exit_code = get_each(arguments, "why")
    for reply in () if arguments.json else replies:
        _print_decisions(reply, with_name=len(replies) > 1)
    return exit_code


def _print_decisions(reply: dict[str, Any], *, with_name: bool) -> None:
    now = time.time()
    if with_name:
        print(f"{reply['name']}:")
    rows = [
        (
            render.ago(decision["at"], now),
            decision["what"],
            render.plain(decision["reason"]),
        )
        for decision in reply["decisions"]
    ]
    if rows:
        print(*render.table(("WHEN", "WHAT", "WHY"), rows, frozenset({0})), sep="\n")
    else:
        print("nothing has been decided about it yet")


def wait(arguments: Arguments) -> int:
    """Wait until kernels reach a state."""
    client = client_for(arguments)
    query = f"for={arguments.goal}&timeout={_parse_timeout(arguments.timeout)}"
    kernels: list[dict[str, Any]] = []

    def wait_for(name: str) -> Any:
        return client.get(f"{kernel_path(name, 'wait')}?{query}", limit=None)

    def on_success(kernel: dict[str, Any]) -> None:
        kernels.append(kernel)
        if not arguments.json:
            print(render.plain(f"{kernel['name']} is {kernel['state']}"), flush=True)

    failures = run_for_each(expand_patterns(client, arguments.names), wait_for, on_success)
    if arguments.json:
        render.print_json({"kernels": kernels, "errors": failures_to_json(failures)})
    return exit_code_of(failures)


def _parse_timeout(text: str) -> float:
    from kconnd.core.profile.quantities import parse_duration  # noqa: PLC0415  # for wait only

    try:
        return min(parse_duration(text), MAX_WAIT_S)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from None


def connection(arguments: Arguments) -> int:
    """Print the content of a kernel's connection file."""
    client = client_for(arguments)
    render.print_json(client.get(kernel_path(arguments.name, "connection")))
    return 0


def profiles(arguments: Arguments) -> int:
    """List the profiles of the daemon, and the faults of profiles."""
    reply: dict[str, Any] = client_for(arguments).get("/v1/profiles")
    if arguments.json:
        render.print_json(reply)
        return 0
    rows = [
        (
            profile["name"],
            profile["start"],
            profile["status"],
            f"{profile['file']}:{profile['line']}",
        )
        for profile in reply["profiles"]
    ]
    print(*render.table(("NAME", "START", "STATUS", "FILE"), rows), sep="\n")
    for fault in reply["faults"]:
        print(render.fault_line(fault))
    return 0


def health(arguments: Arguments) -> int:
    """Print the details of the daemon that answers."""
    reply = client_for(arguments).get("/v1/health")
    if arguments.json:
        render.print_json(reply)
    else:
        rows = [(key, _to_text(value)) for key, value in render.printable(reply).items()]
        print(*render.pairs(rows), sep="\n")
    return 0


def _to_text(value: object) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)
