"""The verbs that change a kernel or the daemon: start, stop, restart, interrupt, signal, reload.

Rule: if a pattern or ``--all`` selects the kernels to stop or restart, these kernels are listed
first, and the user must confirm the request.
"""

from __future__ import annotations

import sys

from kconnd.cli import render
from kconnd.cli.batch import (
    client_for,
    exit_code_of,
    expand_patterns,
    failures_to_json,
    is_pattern,
    run_for_each,
)
from kconnd.client import kernel_path
from kconnd.errors import RefusedError, UsageError

LAUNCHING_VERBS = {"start", "restart"}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from kconnd.cli.batch import Failures
    from kconnd.cli.command_line import Arguments
    from kconnd.client import Client

    Describe = Callable[[dict[str, Any]], str]


LAUNCHES = frozenset({"start", "restart"})  # the verbs after which unenforced limits are reported


def start(arguments: Arguments) -> int:
    """Start kernels concurrently."""
    from kconnd.spawn import client_or_start  # noqa: PLC0415  # only start can start a daemon

    client = client_or_start(arguments.socket)
    return _post(client, arguments, "start", _describe_start, wait=not arguments.no_wait)


def _describe_start(kernel: dict[str, Any]) -> str:
    if kernel["state"] != "running":
        return f"{kernel['name']} is {kernel['state']}"
    if reason := kernel.get("unreachable"):
        return f"{kernel['name']} runs, and no new client can attach: {reason}"
    if "uid" in kernel:  # another owner's kernel, whose files this user cannot read
        return f"{kernel['owner']}/{kernel['name']} is ready"
    origin = render.origin_of_name(kernel)
    name = f"{kernel['name']} ({origin})" if origin else kernel["name"]
    return f"{name} is ready: {kernel['connection_file']}"


def stop(arguments: Arguments) -> int:
    """Stop kernels."""
    if bool(arguments.names) == arguments.all:
        raise UsageError(
            "stop: either NAME or --all is required", hint="kconnd-ctl help stop describes it"
        )
    client = client_for(arguments)
    if arguments.all or any(map(is_pattern, arguments.names)):
        live_kernels = _live_kernels(client, None if arguments.all else arguments.names)
        arguments.names = _confirm(live_kernels, "stop", yes=arguments.yes)
    describe = "{name} is {state}".format_map
    wait = not arguments.no_wait
    return _post(client, arguments, "stop", describe, wait=wait, now=arguments.now)


def _live_kernels(client: Client, names: list[str] | None) -> dict[str, Any]:
    """Find the kernels that match ``names`` (None for all) and are up or will restart.

    Return the daemon's descriptions by name. The value is None for a name that the daemon does not
    list.
    """
    kernels = {kernel["name"]: kernel for kernel in client.get("/v1/kernels")["kernels"]}
    selected = list(kernels) if names is None else expand_patterns(client, names)
    candidates = {name: kernels.get(name) for name in selected}
    return {
        name: kernel
        for name, kernel in candidates.items()
        if kernel is None or kernel["pid"] or kernel["wanted"] == "up"
    }


def _confirm(kernels: dict[str, Any], verb: str, *, yes: bool) -> list[str]:
    """Print the kernels that would lose their memory; return their names if the user confirms."""
    if not kernels:
        print(f"nothing to {verb}", file=sys.stderr)
    if not kernels or yes:
        return list(kernels)
    if not sys.stdin.isatty():
        raise UsageError(
            f"{verb} would stop {', '.join(kernels)}, and stdin is not a terminal to confirm on",
            hint="add --yes to stop them without confirmation",
        )
    rows = [_confirmation_row(name, kernel) for name, kernel in kernels.items()]
    print("These kernels stop, and everything in their memory is lost:", file=sys.stderr)
    print(*(f"  {line}" for line in render.table(rows[0], rows[1:])), sep="\n", file=sys.stderr)
    print("Continue? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise RefusedError(f"{verb} was not confirmed, so nothing was done")
    return list(kernels)


def _confirmation_row(name: str, kernel: dict[str, Any] | None) -> tuple[str, ...]:
    if kernel is None:
        return name, "", "", ""
    activity = kernel["execution_state"] or ""
    return name, kernel["state"], render.size(kernel["memory"]), activity


def restart(arguments: Arguments) -> int:
    """Replace the processes of kernels."""
    client = client_for(arguments)
    if any(map(is_pattern, arguments.names)):
        live_kernels = _live_kernels(client, arguments.names)
        arguments.names = _confirm(live_kernels, "restart", yes=arguments.yes)
    return _post(
        client,
        arguments,
        "restart",
        _describe_start,
        wait=not arguments.no_wait,
        new_key=arguments.new_key,
        now=arguments.now,
    )


def interrupt(arguments: Arguments) -> int:
    """Interrupt the code that kernels are running."""
    client = client_for(arguments)
    return _post(client, arguments, "interrupt", _describe_interrupt, wait=True)


def _describe_interrupt(kernel: dict[str, Any]) -> str:
    name, effect = kernel["name"], kernel.get("interrupt")
    if effect == "idle":
        return f"{name} was idle; nothing to interrupt"
    if effect == "subshell-runs":
        return f"{name} was interrupted; a cell in a subshell still runs"
    if effect == "ended":
        return f"{name} was interrupted"
    return f"{name} was sent an interrupt"


def signal(arguments: Arguments) -> int:
    """Send a signal to kernels."""

    def describe(kernel: dict[str, Any]) -> str:
        return f"{kernel['name']} was sent {arguments.signal}"

    client = client_for(arguments)
    return _post(client, arguments, "signal", describe, signal=arguments.signal)


def reload(arguments: Arguments) -> int:
    """Let the daemon reload its profiles."""
    reply = client_for(arguments).post("/v1/reload")
    if arguments.json:
        render.print_json(reply)
    else:
        _print_difference(reply)
    return 1 if reply["faults"] else 0


def _print_difference(reply: dict[str, Any]) -> None:
    for change in ("added", "changed", "removed"):
        if reply[change]:
            print(render.plain(f"{change}: {', '.join(reply[change])}"))
    print(f"unchanged: {reply['unchanged']}")
    for fault in reply["faults"]:
        print(render.fault_line(fault))


def _post(
    client: Client, arguments: Arguments, verb: str, describe: Describe, **body: object
) -> int:
    """Send a POST request for each kernel, and print the outcomes."""
    kernels: list[dict[str, Any]] = []

    def on_success(kernel: dict[str, Any]) -> None:
        kernels.append(kernel)
        if reason := kernel.get("unrecorded"):
            print(_describe_unrecorded(verb, kernel["name"], reason), file=sys.stderr)
        if verb in LAUNCHES and (text := kernel.get("limits_unenforced")):
            print(f"kconnd-ctl: {kernel['name']}: {render.plain(text)}", file=sys.stderr)
        if not arguments.json:
            print(render.plain(describe(kernel)), flush=True)

    names = expand_patterns(client, arguments.names)
    failures = _post_each(client, names, verb, body, on_success)
    if arguments.json:
        render.print_json({"kernels": kernels, "errors": failures_to_json(failures)})
    return exit_code_of(failures)


def _describe_unrecorded(verb: str, name: str, reason: str) -> str:
    """Describe a change that the daemon could not record on disk, and the consequence."""
    consequence = (
        f"the daemon retries; if it exits first, the next daemon may start {name} again"
        if verb == "stop"
        else "the daemon retries"
    )
    message = f"{verb} {name} succeeded, and could not be recorded: {reason}"
    return f"kconnd-ctl: {render.plain(message)}\n  {render.plain(consequence)}"


def _post_each(
    client: Client,
    names: list[str],
    verb: str,
    body: dict[str, object],
    on_success: Callable[[dict[str, Any]], None],
) -> Failures:
    def request(name: str) -> Any:
        if verb in LAUNCHING_VERBS:
            return client.launch(name, verb, body)
        return client.post(kernel_path(name, verb), body)

    if "now" not in body or not body["wait"]:
        return run_for_each(names, request, on_success)
    from kconnd.cli.progress import Progress  # noqa: PLC0415  # it imports threading

    with Progress(client, verb) as progress:
        return run_for_each(
            names, lambda name: progress.during(name, lambda: request(name)), on_success
        )
