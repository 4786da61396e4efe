"""The verbs that only look: list, info, why, logs, events, wait, connection, profiles."""

from __future__ import annotations

import os
import sys
import time

from kconnd.cli import show
from kconnd.cli.arguments import add_names, client_for, each, expand, is_pattern, parser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from kconnd.client import Client

HEAD = ("NAME", "STATE", "PID", "MEMORY", "IDLE", "UP", "RESTARTS", "NOTE")
NUMBERS = frozenset({2, 3, 4, 5, 6})
KEPT_LINES = 5  # of a last output in `info`


def list_(arguments: list[str]) -> int:
    """List all kernels, or those that fit."""
    verb = parser("list", "List kernels with state, memory (of all their processes), idle time.")
    verb.add_argument("names", nargs="*", metavar="NAME", help="only these; patterns work")
    given = verb.parse_args(arguments)
    client = client_for(given)
    kernels = client.get("/v1/kernels")["kernels"]
    if given.names:
        wanted = set(expand(client, given.names))
        kernels = [kernel for kernel in kernels if kernel["name"] in wanted]
    if given.json:
        show.print_json({"kernels": kernels})
    elif kernels:
        print(*_list_lines(kernels), sep="\n")
    else:
        print("no kernels yet: put a profile into the profile folder, then kconnd-ctl reload;")
        print("or start an installed kernel spec by its name, such as kconnd-ctl start python3")
    return 0


def _list_lines(kernels: list[dict[str, Any]]) -> list[str]:
    now, wanted = time.time(), _colours()
    lines = show.table(HEAD, [_row(kernel, now) for kernel in kernels], NUMBERS)
    return [
        lines[0],
        *(
            line.replace(
                kernel["state"], show.coloured(kernel["state"], kernel["state"], wanted=wanted), 1
            )
            if wanted and kernel["state"] not in kernel["name"]
            else line
            for line, kernel in zip(lines[1:], kernels, strict=True)
        ),
    ]


def _row(kernel: dict[str, Any], now: float) -> tuple[str, ...]:
    up = show.seconds_since(kernel["started_at"], now)
    return (
        kernel["name"],
        kernel["state"],
        str(kernel["pid"] or "-"),
        show.size(kernel["memory"]),
        _idle(kernel, now),
        "-" if up is None else show.span(up),
        str(kernel["restarts"]),
        _note(kernel, now),
    )


def _idle(kernel: dict[str, Any], now: float) -> str:
    if kernel["execution_state"] != "idle":
        return kernel["execution_state"] or "-"
    seconds = show.seconds_since(kernel["last_activity"], now)
    return "-" if seconds is None else show.span(seconds)


def _note(kernel: dict[str, Any], now: float) -> str:
    if kernel["state"] in {"failed", "lost"}:
        return str(kernel["reason"])
    if kernel["state"] == "backoff":
        retry = -(show.seconds_since(kernel["next_attempt_at"], now) or 0)
        return f"{kernel['reason']}; again in {show.span(retry)}"
    if kernel["heartbeat"]["state"] == "unresponsive":
        return "unresponsive"
    return "" if kernel["profile_status"] == "current" else str(kernel["profile_status"])


def _colours() -> bool:
    return show.colours_wanted(os.environ, terminal=sys.stdout.isatty())


def info(arguments: list[str]) -> int:
    """Show all about some kernels."""
    verb = parser(
        "info",
        "Show all about a kernel: state and why, process, how to reach it, last exit.\n"
        "No key is shown; 'connection' gives it to those who may have it.",
        "kconnd-ctl info mykernel --json",
    )
    add_names(verb)
    given = verb.parse_args(arguments)
    client = client_for(given)
    names = expand(client, given.names)
    found: list[dict[str, Any]] = []
    code = each(
        names, lambda name: client.get(f"/v1/kernels/{name}"), lambda _, it: found.append(it)
    )
    if given.json and found:
        single = len(given.names) == 1 and not is_pattern(given.names[0])
        show.print_json(found[0] if single else found)
    elif found:
        print("\n\n".join("\n".join(_info_lines(kernel)) for kernel in found))
    return code


def _info_lines(kernel: dict[str, Any]) -> list[str]:
    now = time.time()
    state = show.coloured(kernel["state"], kernel["state"], wanted=_colours())
    rows = [
        ("kernel", kernel["name"]),
        ("state", f"{state} ({kernel['reason'] or 'never started'})"),
    ]
    if kernel["pid"]:
        ready = kernel["ready_after"]
        speed = f", ready after {ready:.2f} s" if ready is not None else ""
        rows += [
            ("process", f"pid {kernel['pid']}, {show.size(kernel['memory'])} in all its processes"),
            ("started", f"{ago_(kernel['started_at'], now)}{speed}"),
        ]
    rows.append(("launches", f"{kernel['generation']}, {kernel['restarts']} of them restarts"))
    if kernel["language"]:
        rows.append(("runs", f"{kernel['kernel_name']} ({kernel['language']})"))
    if kernel["connection"]:
        rows += _reach(kernel, now)
    if kernel["profile_status"] != "current":
        rows.append(("profile", kernel["profile_status"]))
    rows.append(("log", kernel["log_file"]))
    rows += _last_exit(kernel, now)
    rows += [("warning", text) for text in kernel["warnings"]]
    return show.pairs(rows)


def ago_(text: str | None, now: float) -> str:
    """Say how long ago, for a sentence."""
    return show.ago(text, now)


def _reach(kernel: dict[str, Any], now: float) -> list[tuple[str, str]]:
    wire = kernel["connection"]
    if wire["encrypted"]:
        secured = "encrypted with CURVE"
    elif wire["transport"] == "ipc":
        secured = "closed to other users"
    else:
        secured = "NOT encrypted"
    ports = ", ".join(
        f"{name} {wire[f'{name}_port']}" for name in ("shell", "iopub", "stdin", "control", "hb")
    )
    clients = kernel.get("clients")
    attached = "" if clients is None else f", {clients} client{'' if clients == 1 else 's'}"
    activity = show.ago(kernel["last_activity"], now)
    return [
        ("activity", f"{kernel['execution_state'] or 'not known yet'}, last {activity}{attached}"),
        ("heartbeat", str(kernel["heartbeat"]["state"])),
        ("transport", f"{wire['transport']} {wire['ip']}, {secured}"),
        ("ports", ports),
        ("file", kernel["connection_file"]),
    ]


def _last_exit(kernel: dict[str, Any], now: float) -> list[tuple[str, str]]:
    last = kernel["last_exit"]
    if last is None:
        return []
    lines = [f"{last['reason']}, {show.ago(last['at'], now)}"]
    if kernel["state"] != "running":
        lines += [f"| {line}" for line in last["output_tail"].rstrip().splitlines()[-KEPT_LINES:]]
    return [("last exit", "\n".join(lines))]


def why(arguments: list[str]) -> int:
    """Tell the last decisions."""
    verb = parser("why", "Tell the last decisions about a kernel and the reason of each.")
    add_names(verb)
    given = verb.parse_args(arguments)
    client = client_for(given)
    found: list[dict[str, Any]] = []
    names = expand(client, given.names)
    code = each(
        names, lambda name: client.get(f"/v1/kernels/{name}/why"), lambda _, it: found.append(it)
    )
    if given.json and found:
        show.print_json(found[0] if len(names) == 1 else found)
    else:
        for one in found:
            _print_decisions(one, several=len(found) > 1)
    return code


def _print_decisions(found: dict[str, Any], *, several: bool) -> None:
    now = time.time()
    if several:
        print(f"{found['name']}:")
    rows = [(show.ago(one["at"], now), one["what"], one["reason"]) for one in found["decisions"]]
    if rows:
        print(*show.table(("WHEN", "WHAT", "WHY"), rows, frozenset({0})), sep="\n")
    else:
        print("nothing has been decided about it yet")


def logs(arguments: list[str]) -> int:
    """Show a kernel's output."""
    verb = parser("logs", "Show what a kernel wrote to its output.", "kconnd-ctl logs -f mykernel")
    add_names(verb)
    verb.add_argument("-n", "--lines", type=int, default=100, metavar="N", help="how many lines")
    verb.add_argument("-f", "--follow", action="store_true", help="go on with what comes")
    given = verb.parse_args(arguments)
    client = client_for(given)
    names = expand(client, given.names)

    def copy(name: str) -> None:
        query = f"lines={given.lines}&follow={int(given.follow)}"
        for piece in client.stream(f"/v1/kernels/{name}/logs?{query}"):
            _print_piece(name, piece["text"], given, several=len(names) > 1)

    return each(names, copy, lambda _name, _nothing: None)


def _print_piece(name: str, text: str, given: Namespace, *, several: bool) -> None:
    if given.json:
        import json  # noqa: PLC0415  # only for this

        print(json.dumps({"name": name, "text": text}), flush=True)
    elif several:
        print(
            "".join(f"{name}: {line}" for line in text.splitlines(keepends=True)),
            end="",
            flush=True,
        )
    else:
        print(text, end="", flush=True)


def events(arguments: list[str]) -> int:
    """Show what happened."""
    verb = parser("events", "Show what happened to kernels since the daemon started.")
    verb.add_argument("name", nargs="?", metavar="NAME", help="only this kernel's")
    verb.add_argument("-f", "--follow", action="store_true", help="go on with what comes")
    given = verb.parse_args(arguments)
    query = f"follow={int(given.follow)}" + (f"&kernel={given.name}" if given.name else "")
    for one in client_for(given).stream(f"/v1/events?{query}"):
        if given.json:
            import json  # noqa: PLC0415  # only for this

            print(json.dumps(one), flush=True)
        else:
            print(f"{one['at']}  {one['kernel']}  {one['message']}", flush=True)
    return 0


def wait(arguments: list[str]) -> int:
    """Wait for a state."""
    verb = parser("wait", "Wait until kernels are ready, or stopped.", "kconnd-ctl wait lab")
    add_names(verb)
    verb.add_argument("--for", dest="goal", default="ready", choices=("ready", "stopped"))
    verb.add_argument("--timeout", default="infinity", metavar="TIME", help="such as 30s or 5min")
    given = verb.parse_args(arguments)
    client = client_for(given)
    limit = _seconds(given.timeout)
    found: list[dict[str, Any]] = []

    def until(name: str) -> Any:
        return client.get(f"/v1/kernels/{name}/wait?for={given.goal}&timeout={limit}")

    code = each(expand(client, given.names), until, lambda _, it: found.append(it))
    if given.json:
        show.print_json({"kernels": found})
    return code


def _seconds(text: str) -> float:
    from kconnd.core.units import parse_duration  # noqa: PLC0415  # only for this
    from kconnd.errors import UsageError  # noqa: PLC0415  # the same

    try:
        return min(parse_duration(text), 1e9)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from None


def connection(arguments: list[str]) -> int:
    """Give a connection file's content."""
    verb = parser(
        "connection",
        "Print the content of a kernel's connection file: with its key, so for your eyes only.",
        "kconnd-ctl connection mykernel > kernel.json",
    )
    verb.add_argument("name", metavar="NAME")
    given = verb.parse_args(arguments)
    show.print_json(client_for(given).get(f"/v1/kernels/{given.name}/connection"))
    return 0


def profiles(arguments: list[str]) -> int:
    """List profiles."""
    given = parser("profiles", "List the profiles that the daemon has read, and their faults.")
    found = _profiles(client_for(options := given.parse_args(arguments)))
    if options.json:
        show.print_json(found)
        return 0
    rows = [
        (one["name"], one["start"], one["status"], f"{one['file']}:{one['line']}")
        for one in found["profiles"]
    ]
    print(*show.table(("NAME", "START", "STATUS", "FILE"), rows), sep="\n")
    for fault in found["faults"]:
        print(fault_line(fault))
    return 0


def health(arguments: list[str]) -> int:
    """Show the daemon."""
    verb = parser("health", "Show the daemon that answers: version, process, folders, counts.")
    given = verb.parse_args(arguments)
    found = client_for(given).get("/v1/health")
    if given.json:
        show.print_json(found)
    else:
        print(*show.pairs([(key, _text(value)) for key, value in found.items()]), sep="\n")
    return 0


def _text(value: object) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _profiles(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/v1/profiles")
    return found


def fault_line(fault: dict[str, Any]) -> str:
    """Give a profile's fault as compilers do: file, line, column, what."""
    key = f"{fault['path']}: " if fault["path"] else ""
    hint = f"; {fault['hint']}" if fault["hint"] else ""
    return f"{fault['file']}:{fault['line']}:{fault['column']}: {key}{fault['message']}{hint}"
