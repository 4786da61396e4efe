"""The verbs that change something: start, stop, restart, interrupt, signal, reload.

Rule: what would end kernels that were not named one by one is shown first, and agreed to.
"""

from __future__ import annotations

import sys

from kconnd.cli import render
from kconnd.cli.arguments import (
    add_names,
    client_for,
    each,
    errors_in_json,
    exit_code,
    expand,
    is_pattern,
    parser,
)
from kconnd.client import kernel_path
from kconnd.errors import RefusedError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kconnd.cli.arguments import Failures, Given, Parser
    from kconnd.client import Client

ANSWER = (
    '{"kernels": [KERNEL], "errors": [{"name", "code", "message", "hint", "output"}]}\n'
    "  KERNEL is what kconnd-ctl info --json gives."
)


def start(arguments: list[str]) -> int:
    """Start kernels, side by side."""
    verb = parser(
        "start",
        "Start kernels and wait until each answers. Names are profiles, installed kernel specs\n"
        "or PROFILE@INSTANCE. A daemon is started for you where none runs.",
        "kconnd-ctl start mykernel mykernel@exp1",
        ANSWER,
    )
    add_names(verb)
    _add_no_wait(verb)
    given = verb.parse_args(arguments)
    from kconnd.spawn import client_or_start  # noqa: PLC0415  # look-ups do not need it

    return _post(client_or_start(given.socket), given, "start", _started)


def _started(kernel: dict[str, Any]) -> str:
    if kernel["state"] != "running":
        return f"{kernel['name']} is {kernel['state']}"
    if why := kernel.get("unreachable"):
        return f"{kernel['name']} runs, and no new client can attach: {why}"
    if "uid" in kernel:  # another owner's, whose files are out of reach
        return f"{kernel['owner']}/{kernel['name']} is ready"
    return f"{kernel['name']} is ready: {kernel['connection_file']}"


def stop(arguments: list[str]) -> int:
    """End kernels."""
    verb = parser(
        "stop",
        "End kernels and wait until every process of each is gone. What they hold in memory\n"
        "is lost. A kernel that was told to end runs its exit functions (atexit), for which it\n"
        "has the profile's stop_timeout; stop says what it waits for. --now does without: it\n"
        "sends SIGTERM, and then SIGKILL, also where another stop is under way. A pattern lists\n"
        "what it would end, and asks. On a full or read-only disk a kernel is ended, too; what\n"
        "could not be recorded is said on stderr, and the exit code is 0.",
        "kconnd-ctl stop 'exp*'",
        ANSWER,
    )
    add_names(verb, least=0)
    verb.add_argument("--all", action="store_true", help="every kernel that is up")
    _add_yes(verb)
    _add_no_wait(verb)
    _add_now(verb)
    given = verb.parse_args(arguments)
    if bool(given.names) == given.all:
        raise UsageError("stop needs either names or --all", hint="kconnd-ctl stop --help")
    client = client_for(given)
    if given.all or any(map(is_pattern, given.names)):
        given.names = _agreed(_live(client, given), "stop", yes=given.yes)
    said = "{name} is {state}".format_map
    return _post(client, given, "stop", said, now=given.now)


def _live(client: Client, given: Given) -> dict[str, Any]:
    """Find what would end: those that are up, or are to come up again."""
    kernels = {kernel["name"]: kernel for kernel in client.get("/v1/kernels")["kernels"]}
    every = getattr(given, "all", False)
    names = list(kernels) if every else expand(client, given.names)
    found = {name: kernels.get(name) for name in names}
    return {
        name: kernel
        for name, kernel in found.items()
        if kernel is None or kernel["pid"] or kernel["wanted"] == "up"
    }


def _agreed(kernels: dict[str, Any], verb: str, *, yes: bool) -> list[str]:
    """Give the names of what is to end, once the user has seen and agreed to them."""
    if not kernels:
        print(f"nothing to {verb}", file=sys.stderr)
    if not kernels or yes:
        return list(kernels)
    if not sys.stdin.isatty():
        raise UsageError(
            f"{verb} would end {', '.join(kernels)}, and there is no terminal to ask on",
            hint="add --yes to end them",
        )
    rows = [_loss(name, kernel) for name, kernel in kernels.items()]
    print("This ends, with all that is in their memory:", file=sys.stderr)
    print(*(f"  {line}" for line in render.table(rows[0], rows[1:])), sep="\n", file=sys.stderr)
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise RefusedError(f"nothing was done: {verb} was not agreed to")
    return list(kernels)


def _loss(name: str, kernel: dict[str, Any] | None) -> tuple[str, ...]:
    if kernel is None:
        return name, "", "", ""
    activity = kernel["execution_state"] or ""
    return name, kernel["state"], render.size(kernel["memory"]), activity


def restart(arguments: list[str]) -> int:
    """Give kernels fresh processes."""
    verb = parser(
        "restart",
        "Give a kernel a fresh process under the same name, ports and key: attached clients\n"
        "go on, its memory is lost. --new-key shuts out whoever has the old key. A pattern\n"
        "means those that are up; it lists what would be lost, and asks. Where a full or\n"
        "read-only disk would keep it from starting again, it is not ended: exit code 1.",
        "kconnd-ctl restart mykernel",
        ANSWER,
    )
    add_names(verb)
    verb.add_argument("--new-key", action="store_true", help="revoke the key that was given out")
    _add_yes(verb)
    _add_no_wait(verb)
    _add_now(verb)
    given = verb.parse_args(arguments)
    client = client_for(given)
    if any(map(is_pattern, given.names)):
        given.names = _agreed(_live(client, given), "restart", yes=given.yes)
    return _post(client, given, "restart", _started, new_key=given.new_key, now=given.now)


def interrupt(arguments: list[str]) -> int:
    """Interrupt what kernels run."""
    verb = parser(
        "interrupt",
        "Interrupt what a kernel is running, as its kernel spec asks for. A kernel that starts\n"
        "is left alone: it runs nothing yet, and could end by that. Some kernels end by an\n"
        "interrupt at any time; where one does, that is said, with exit code 3.",
        "kconnd-ctl interrupt mykernel",
        ANSWER,
    )
    add_names(verb)
    given = verb.parse_args(arguments)
    said = "{name} was interrupted".format_map
    return _post(client_for(given), given, "interrupt", said, wait=True)


def signal(arguments: list[str]) -> int:
    """Send a signal to kernels."""
    verb = parser(
        "signal",
        "Send a signal to a kernel and the processes of its group.",
        "kconnd-ctl signal mykernel -s USR1",
        ANSWER,
    )
    add_names(verb)
    verb.add_argument("-s", "--signal", required=True, metavar="SIG", help="a name or number")
    given = verb.parse_args(arguments)
    client = client_for(given)

    def said(kernel: dict[str, Any]) -> str:
        return f"{kernel['name']} was sent {given.signal}"

    return _post(client, given, "signal", said, signal=given.signal)


def reload(arguments: list[str]) -> int:
    """Read the profiles again."""
    verb = parser(
        "reload",
        "Have the daemon read its profiles again. No live kernel is touched. Exit code 1 where\n"
        "a profile has faults.",
        answer='{"added": [NAME], "changed": [NAME], "removed": [NAME], "unchanged": COUNT,\n'
        '   "faults": [{"file", "line", "column", "path", "message", "hint"}]}',
    )
    given = verb.parse_args(arguments)
    found = client_for(given).post("/v1/reload")
    if given.json:
        render.print_json(found)
    else:
        _print_difference(found)
    return 1 if found["faults"] else 0


def _print_difference(found: dict[str, Any]) -> None:
    for word in ("added", "changed", "removed"):
        if found[word]:
            print(render.plain(f"{word}: {', '.join(found[word])}"))
    print(f"unchanged: {found['unchanged']}")
    for fault in found["faults"]:
        print(render.fault_line(fault))


def _add_yes(verb: Parser) -> None:
    verb.add_argument("--yes", action="store_true", help="do not ask")


def _add_no_wait(verb: Parser) -> None:
    verb.add_argument("--no-wait", action="store_true", help="return at once")


def _add_now(verb: Parser) -> None:
    verb.add_argument("--now", action="store_true", help="by SIGTERM, without exit functions")


def _post(client: Client, given: Given, path: str, said: Any, **body: object) -> int:
    """Ask the same for each kernel; print what became of each."""
    if hasattr(given, "no_wait"):
        body["wait"] = not given.no_wait
    found: list[dict[str, Any]] = []

    def done(kernel: dict[str, Any]) -> None:
        found.append(kernel)
        if why := kernel.get("unrecorded"):
            print(render.plain(_unrecorded(path, kernel["name"], why)), file=sys.stderr)
        if not given.json:
            print(render.plain(said(kernel)), flush=True)

    names = expand(client, given.names)
    failures = _post_each(client, names, path, body, done)
    if given.json:
        render.print_json({"kernels": found, "errors": errors_in_json(failures)})
    return exit_code(failures)


def _unrecorded(verb: str, name: str, why: str) -> str:
    """Say what is not on disk of what was done, and what can come of that."""
    after = (
        f"the daemon goes on trying; if it ends first, the next one may start {name} again"
        if verb == "stop"
        else "the daemon goes on trying"
    )
    return f"kconnd-ctl: {verb} {name} was done, and could not be recorded: {why}\n  {after}"


def _post_each(
    client: Client, names: list[str], path: str, body: dict[str, object], done: Any
) -> Failures:
    def act(name: str) -> Any:
        return client.post(kernel_path(name, path), body)

    if "now" not in body or not body["wait"]:
        return each(names, act, done)
    from kconnd.cli.progress import Progress  # noqa: PLC0415  # it imports threading

    with Progress(client, path) as progress:
        return each(names, lambda name: progress.during(name, lambda: act(name)), done)
