"""``kconnd-ctl list``: a table of kernels."""

from __future__ import annotations

import os
import sys
import time

from kconnd.cli import render
from kconnd.cli.batch import client_for, expand_patterns
from kconnd.client import Client, owner_client
from kconnd.errors import KconndError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kconnd.cli.command_line import Arguments

COLUMNS = ("NAME", "STATE", "PID", "MEMORY", "IDLE", "UP", "RESTARTS", "NOTE")
SHARED_LIMIT_S = 2.0  # for the reply of another owner's daemon, which may hang
NUMERIC_COLUMNS = frozenset({2, 3, 4, 5, 6})


def list_kernels(arguments: Arguments) -> int:
    """List all kernels, or the kernels that match the names."""
    reply = _kernels_of_all_users() if arguments.all_users else _own_kernels(arguments)
    if arguments.names:
        selected = set(expand_patterns(client_for(arguments), arguments.names))
        reply["kernels"] = [kernel for kernel in reply["kernels"] if kernel["name"] in selected]
        reply["elsewhere"] = reply["shared"] = []
    elif reply.get("shared"):
        _add_shared_kernels(reply)
    for error in reply.get("errors", []):
        print(render.plain(f"kconnd-ctl: {error['message']}"), file=sys.stderr)
    if arguments.json:
        render.print_json(reply)
    else:
        elsewhere = reply.get("elsewhere", [])
        kernels = [*reply["kernels"], *reply.get("shared", [])]
        _print_kernels(render.printable(kernels), render.printable(elsewhere))
    return 0


def _own_kernels(arguments: Arguments) -> dict[str, Any]:
    reply: dict[str, Any] = client_for(arguments).get("/v1/kernels")
    return reply


def _add_shared_kernels(reply: dict[str, Any]) -> None:
    """Replace the names of shared kernels by descriptions from their owners' daemons."""
    names_of: dict[str, set[str]] = {}
    for kernel in reply["shared"]:
        names_of.setdefault(kernel["owner"], set()).add(kernel["name"])
    reply["shared"], reply["errors"] = [], []
    for owner, names in names_of.items():
        try:
            kernels = owner_client(owner).get("/v1/kernels", limit=SHARED_LIMIT_S)["kernels"]
        except KconndError as error:
            reply["errors"].append({"message": f"listing the kernels of {owner}: {error.message}"})
            continue
        for kernel in kernels:
            if kernel["name"].partition("@")[0] in names:
                reply["shared"].append({**kernel, "name": f"{owner}/{kernel['name']}"})


def _kernels_of_all_users() -> dict[str, Any]:
    from kconnd.core.paths import FRONT_SOCKET  # noqa: PLC0415  # for --all-users only

    reply: dict[str, Any] = Client(FRONT_SOCKET).get("/v1/kernels")
    for kernel in reply["kernels"]:
        kernel["name"] = f"{kernel['owner']}/{kernel['name']}"
    return reply


def _print_kernels(kernels: list[dict[str, Any]], elsewhere: list[dict[str, Any]]) -> None:
    if kernels:
        print(*list_lines(kernels), sep="\n")
    elif not elsewhere:
        print("There are no kernels yet. Write a profile and run kconnd-ctl reload,")
        print("or start an installed kernel spec by its name: kconnd-ctl start python3")
    for kernel in elsewhere:
        print(render.plain(f"on {kernel['machine']}: {kernel['name']} was {kernel['state']}"))


def list_lines(kernels: list[dict[str, Any]]) -> list[str]:
    """Render the table of kernels; on a terminal, cut the lines to the terminal's width."""
    now = time.time()
    in_colour = render.use_colours(os.environ, is_terminal=sys.stdout.isatty())
    width = os.get_terminal_size(1).columns if sys.stdout.isatty() else 0
    rows = [_row(kernel, now) for kernel in kernels]
    return render.table(
        COLUMNS,
        rows,
        NUMERIC_COLUMNS,
        width=width,
        paint=lambda state, padded: render.coloured(padded, state, in_colour=in_colour),
    )


def _row(kernel: dict[str, Any], now: float) -> tuple[str, ...]:
    uptime = render.seconds_since(kernel["started_at"], now)
    return (
        kernel["name"],
        kernel["state"],
        str(kernel["pid"] or "-"),
        render.size(kernel["memory"]),
        _activity(kernel, now),
        "-" if uptime is None else render.span(uptime),
        str(kernel["restarts"]),
        render.plain(_note(kernel, now)),
    )


def _activity(kernel: dict[str, Any], now: float) -> str:
    """Return the idle time of an idle kernel; for another kernel, a word for its activity."""
    if kernel["execution_state"] != "idle":
        return kernel["execution_state"] or "-"
    seconds = render.seconds_since(kernel["last_activity"], now)
    return "-" if seconds is None else render.span(seconds)


def _note(kernel: dict[str, Any], now: float) -> str:
    """Explain an unusual state of a kernel, such as backoff or failed."""
    if kernel["state"] in {"failed", "lost"}:
        return str(kernel["reason"])
    if kernel["state"] == "backoff":
        delay = -(render.seconds_since(kernel["next_attempt_at"], now) or 0)
        return f"{kernel['reason']}; again in {render.span(delay)}"
    if kernel.get("waits_for"):
        return f"waits for {kernel['waits_for']}"
    if reason := kernel.get("unreachable"):
        return f"no new client can attach: {reason}"
    if kernel["heartbeat"]["state"] == "unresponsive":
        return "unresponsive"
    return render.profile_status(kernel)
