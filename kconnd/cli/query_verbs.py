"""The verbs that only look: list, info, why, wait, connection, profiles, health."""

from __future__ import annotations

import os
import sys
import time

from kconnd.cli import render
from kconnd.cli.batch import (
    client_for,
    exit_code_of,
    expand_patterns,
    failures_to_json,
    is_pattern,
    run_for_each,
)
from kconnd.client import Client, kernel_path
from kconnd.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from kconnd.cli.command_line import Arguments

HEAD = ("NAME", "STATE", "PID", "MEMORY", "IDLE", "UP", "RESTARTS", "NOTE")
NUMBERS = frozenset({2, 3, 4, 5, 6})
KEPT_LINES = 5  # of a last output in `info`
KERNEL = """\
an object with name, profile, owner, state, wanted, reason, waits_for, pid, generation, restarts,
  started_at, ready_after (seconds), launcher, launcher_note (why it is not the one asked for),
  kernel_name, language, language_version, implementation, implementation_version,
  protocol_version, connection_file, connection {transport, ip, shell_port, iopub_port,
  stdin_port, control_port, hb_port, signature_scheme, encrypted}, heartbeat {state, last_at},
  execution_state, last_activity, kept_alive (why idle.stop_after does not stop it), clients,
  memory (bytes), last_exit {code, signal, reason, at, output_tail}, log_file, profile_status,
  next_attempt_at, warnings. Times are ISO 8601 in UTC;
  what does not apply is null. For several names or a pattern: a list of these."""


def list_(arguments: Arguments) -> int:
    """List all kernels, or those that fit."""
    reply = _everybodys() if arguments.all_users else client_for(arguments).get("/v1/kernels")
    if arguments.names:
        wanted = set(expand_patterns(client_for(arguments), arguments.names))
        reply["kernels"] = [kernel for kernel in reply["kernels"] if kernel["name"] in wanted]
        reply["elsewhere"] = []
    for error in reply.get("errors", []):
        print(render.plain(f"kconnd-ctl: {error['message']}"), file=sys.stderr)
    if arguments.json:
        render.print_json(reply)
    else:
        _print_list(
            render.printable(reply["kernels"]), render.printable(reply.get("elsewhere", []))
        )
    return 0


def _everybodys() -> dict[str, Any]:
    from kconnd.core.paths import FRONT_SOCKET  # noqa: PLC0415  # only for administrators

    reply: dict[str, Any] = Client(FRONT_SOCKET).get("/v1/kernels")
    for kernel in reply["kernels"]:
        kernel["name"] = f"{kernel['owner']}/{kernel['name']}"
    return reply


def _print_list(kernels: list[dict[str, Any]], elsewhere: list[dict[str, Any]]) -> None:
    if kernels:
        print(*_list_lines(kernels), sep="\n")
    elif not elsewhere:
        print("no kernels yet: put a profile into the profile folder, then kconnd-ctl reload;")
        print("or start an installed kernel spec by its name, such as kconnd-ctl start python3")
    for one in elsewhere:
        print(render.plain(f"on {one['machine']}: {one['name']} was {one['state']}"))


def _list_lines(kernels: list[dict[str, Any]]) -> list[str]:
    now, wanted = time.time(), _colours()
    width = os.get_terminal_size(1).columns if sys.stdout.isatty() else 0
    rows = [_row(kernel, now) for kernel in kernels]
    return render.table(
        HEAD,
        rows,
        NUMBERS,
        width=width,
        paint=lambda state, padded: render.coloured(padded, state, wanted=wanted),
    )


def _row(kernel: dict[str, Any], now: float) -> tuple[str, ...]:
    up = render.seconds_since(kernel["started_at"], now)
    return (
        kernel["name"],
        kernel["state"],
        str(kernel["pid"] or "-"),
        render.size(kernel["memory"]),
        _idle(kernel, now),
        "-" if up is None else render.span(up),
        str(kernel["restarts"]),
        _note(kernel, now),
    )


def _idle(kernel: dict[str, Any], now: float) -> str:
    if kernel["execution_state"] != "idle":
        return kernel["execution_state"] or "-"
    seconds = render.seconds_since(kernel["last_activity"], now)
    return "-" if seconds is None else render.span(seconds)


def _note(kernel: dict[str, Any], now: float) -> str:
    """Say what a person should know of a kernel that is not simply up or down."""
    return render.plain(_trouble(kernel, now))


def _trouble(kernel: dict[str, Any], now: float) -> str:
    if kernel["state"] in {"failed", "lost"}:
        return str(kernel["reason"])
    if kernel["state"] == "backoff":
        retry = -(render.seconds_since(kernel["next_attempt_at"], now) or 0)
        return f"{kernel['reason']}; again in {render.span(retry)}"
    if kernel.get("waits_for"):
        return f"waits for {kernel['waits_for']}"
    if why := kernel.get("unreachable"):
        return f"no new client can attach: {why}"
    if kernel["heartbeat"]["state"] == "unresponsive":
        return "unresponsive"
    return "" if kernel["profile_status"] == "current" else str(kernel["profile_status"])


def _colours() -> bool:
    return render.colours_wanted(os.environ, terminal=sys.stdout.isatty())


def info(arguments: Arguments) -> int:
    """Show all about some kernels."""
    found, code = _of_each(arguments, "")
    if found and not arguments.json:
        print("\n\n".join("\n".join(_info_lines(kernel)) for kernel in found))
    return code


def _of_each(arguments: Arguments, verb: str) -> tuple[list[dict[str, Any]], int]:
    """Ask for each name; print for programs: one object for one name, else a list."""
    client = client_for(arguments)
    found: list[dict[str, Any]] = []
    if len(arguments.names) == 1 and not is_pattern(arguments.names[0]):
        found.append(client.get(kernel_path(arguments.names[0], verb)))
        if arguments.json:
            render.print_json(found[0])
        return render.printable(found), 0
    names = expand_patterns(client, arguments.names)
    failures = run_for_each(names, lambda name: client.get(kernel_path(name, verb)), found.append)
    if arguments.json:
        render.print_json(found)
    return render.printable(found), exit_code_of(failures)


def _state(kernel: dict[str, Any]) -> Iterator[tuple[str, str]]:
    state = render.coloured(kernel["state"], kernel["state"], wanted=_colours())
    yield "state", f"{state} ({render.plain(kernel['reason'] or 'never started')})"
    if kernel.get("waits_for"):
        yield "waits for", render.plain(kernel["waits_for"])


def _info_lines(kernel: dict[str, Any]) -> list[str]:
    now = time.time()
    rows = [("kernel", kernel["name"]), *_state(kernel), *_attach_fault(kernel)]
    if kernel["pid"]:
        ready = kernel["ready_after"]
        speed = f", ready after {ready:.2f} s" if ready is not None else ""
        rows += [
            (
                "process",
                f"pid {kernel['pid']}, {render.size(kernel['memory'])} in all its processes",
            ),
            ("started", f"{render.ago(kernel['started_at'], now)}{speed}"),
        ]
    rows.append(("launches", f"{kernel['generation']}, {kernel['restarts']} of them restarts"))
    if kernel["language"]:
        rows.append(("runs", _software(kernel)))
    if kernel.get("launcher_note"):
        rows.append(("launcher", f"{kernel['launcher']}, {render.plain(kernel['launcher_note'])}"))
    elif kernel["launcher"] == "fork":
        rows.append(("launcher", "fork"))
    if kernel["connection"]:
        rows += _reach(kernel, now)
    if kernel.get("kept_alive"):
        rows.append(
            ("kept alive", f"idle.stop_after has passed; {render.plain(kernel['kept_alive'])}")
        )
    if kernel["profile_status"] != "current":
        rows.append(("profile", kernel["profile_status"]))
    rows.append(("log", kernel["log_file"]))
    rows += _last_exit(kernel, now)
    rows += [("warning", render.plain(text)) for text in kernel["warnings"]]
    return render.pairs(rows)


def _attach_fault(kernel: dict[str, Any]) -> list[tuple[str, str]]:
    """Say why no new client can attach, and what to do."""
    why = kernel.get("unreachable")
    if not why:
        return []
    from kconnd.core.kernel.reachability import attach_hint  # noqa: PLC0415  # it imports what a look-up need not

    return [
        ("attach", render.plain(f"no new client can: {why}")),
        ("", attach_hint(kernel["name"])),
    ]


def _software(kernel: dict[str, Any]) -> str:
    """Say what runs: ``python3 (python 3.11.7, ipython 9.1.0)``."""
    words = [kernel["language"], kernel.get("language_version") or ""]
    said = " ".join(word for word in words if word)
    if kernel.get("implementation"):
        said += f", {kernel['implementation']} {kernel.get('implementation_version') or ''}"
    return render.plain(f"{kernel['kernel_name']} ({said.rstrip()})")


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
    activity = render.ago(kernel["last_activity"], now)
    return [
        ("activity", f"{kernel['execution_state'] or 'not known yet'}, last {activity}{attached}"),
        ("heartbeat", str(kernel["heartbeat"]["state"])),
        ("transport", f"{wire['transport']} {wire['ip']}, {secured}"),
        ("ports", ports),
        ("file", kernel["connection_file"] or "-"),
    ]


def _last_exit(kernel: dict[str, Any], now: float) -> list[tuple[str, str]]:
    last = kernel["last_exit"]
    if last is None:
        return []
    lines = [f"{last['reason']}, {render.ago(last['at'], now)}"]
    if kernel["state"] != "running":
        lines += [
            f"| {render.plain(line)}"
            for line in last["output_tail"].rstrip().splitlines()[-KEPT_LINES:]
        ]
    return [("last exit", "\n".join(lines))]


def why(arguments: Arguments) -> int:
    """Tell the last decisions."""
    found, code = _of_each(arguments, "why")
    for one in () if arguments.json else found:
        _print_decisions(one, several=len(found) > 1)
    return code


def _print_decisions(found: dict[str, Any], *, several: bool) -> None:
    now = time.time()
    if several:
        print(f"{found['name']}:")
    rows = [
        (render.ago(one["at"], now), one["what"], render.plain(one["reason"]))
        for one in found["decisions"]
    ]
    if rows:
        print(*render.table(("WHEN", "WHAT", "WHY"), rows, frozenset({0})), sep="\n")
    else:
        print("nothing has been decided about it yet")


def wait(arguments: Arguments) -> int:
    """Wait for a state."""
    client = client_for(arguments)
    limit = _seconds(arguments.timeout)
    found: list[dict[str, Any]] = []

    def until(name: str) -> Any:
        return client.get(
            f"{kernel_path(name, 'wait')}?for={arguments.goal}&timeout={limit}", limit=None
        )

    def done(kernel: dict[str, Any]) -> None:
        found.append(kernel)
        if not arguments.json:
            print(render.plain(f"{kernel['name']} is {kernel['state']}"), flush=True)

    failures = run_for_each(expand_patterns(client, arguments.names), until, done)
    if arguments.json:
        render.print_json({"kernels": found, "errors": failures_to_json(failures)})
    return exit_code_of(failures)


def _seconds(text: str) -> float:
    from kconnd.core.profile.quantities import parse_duration  # noqa: PLC0415  # only for this

    try:
        return min(parse_duration(text), 1e9)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from None


def connection(arguments: Arguments) -> int:
    """Give a connection file's content."""
    render.print_json(client_for(arguments).get(kernel_path(arguments.name, "connection")))
    return 0


def profiles(arguments: Arguments) -> int:
    """List profiles."""
    found = _profiles(client_for(arguments))
    if arguments.json:
        render.print_json(found)
        return 0
    rows = [
        (one["name"], one["start"], one["status"], f"{one['file']}:{one['line']}")
        for one in found["profiles"]
    ]
    print(*render.table(("NAME", "START", "STATUS", "FILE"), rows), sep="\n")
    for fault in found["faults"]:
        print(render.fault_line(fault))
    return 0


def health(arguments: Arguments) -> int:
    """Show the daemon."""
    found = client_for(arguments).get("/v1/health")
    if arguments.json:
        render.print_json(found)
    else:
        rows = [(key, _text(value)) for key, value in render.printable(found).items()]
        print(*render.pairs(rows), sep="\n")
    return 0


def _text(value: object) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _profiles(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/v1/profiles")
    return found
