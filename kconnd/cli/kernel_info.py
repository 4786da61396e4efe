"""``kconnd-ctl info``: prints all details of a kernel."""

from __future__ import annotations

import os
import sys
import time

from kconnd.cli import render
from kconnd.cli.batch import get_each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kconnd.cli.command_line import Arguments

    Rows = list[tuple[str, str]]

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
OUTPUT_LINES = 5  # the last lines of output before the last exit


def info(arguments: Arguments) -> int:
    """Print all details of kernels."""
    kernels, exit_code = get_each(arguments, "", "?check=1")
    if kernels and not arguments.json:
        print("\n\n".join("\n".join(_info_lines(kernel)) for kernel in kernels))
    return exit_code


def _info_lines(kernel: dict[str, Any]) -> list[str]:
    now = time.time()
    origin = render.origin_of_name(kernel)
    rows = [("kernel", f"{kernel['name']}, {origin}" if origin else kernel["name"])]
    rows += [*_state_rows(kernel), *_attach_rows(kernel)]
    rows += _silence_rows(kernel)
    if kernel["pid"]:
        rows += _process_rows(kernel, now)
    rows.append(("launches", f"{kernel['generation']}, {kernel['restarts']} of them restarts"))
    rows += [*_launch_rows(kernel), *_limit_rows(kernel), *_session_rows(kernel, now)]
    if kernel["connection"]:
        rows += _connection_rows(kernel, now)
    if kernel.get("in_subshells"):
        rows.append(("interrupt", render.plain(kernel["in_subshells"])))
    if kernel.get("kept_alive"):
        reason = render.plain(kernel["kept_alive"])
        rows.append(("kept alive", f"idle.stop_after has passed; {reason}"))
    rows += _profile_rows(kernel)
    rows.append(("log", kernel["log_file"]))
    rows += _last_exit_rows(kernel, now)
    rows += [("warning", render.plain(text)) for text in kernel["warnings"]]
    return render.pairs(rows)


def _state_rows(kernel: dict[str, Any]) -> Rows:
    in_colour = render.use_colours(os.environ, is_terminal=sys.stdout.isatty())
    state = render.coloured(kernel["state"], kernel["state"], in_colour=in_colour)
    rows = [("state", f"{state} ({render.plain(kernel['reason'] or 'never started')})")]
    if kernel.get("waits_for"):
        rows.append(("waits for", render.plain(kernel["waits_for"])))
    return rows


def _profile_rows(kernel: dict[str, Any]) -> Rows:
    status = render.profile_status(kernel)
    if kernel["profile_status"] == "orphaned":
        status = "removed; a restart uses the profile that the kernel was launched with"
    return [("profile", status)] if status else []


def _attach_rows(kernel: dict[str, Any]) -> Rows:
    """Return rows that explain why no new client can attach; no rows if clients can attach."""
    reason = kernel.get("unreachable")
    if not reason:
        return []
    # The import is here, because this module imports others that most look-ups do not need.
    from kconnd.core.kernel.reachability import attach_hint  # noqa: PLC0415  # rarely

    return [
        ("attach", render.plain(f"no new client can: {reason}")),
        ("", attach_hint(kernel["name"])),
    ]


def _silence_rows(kernel: dict[str, Any]) -> Rows:
    """Return rows about a kernel that reports idle and does not answer; no rows for others."""
    if not kernel.get("unanswered"):
        return []
    from kconnd.core.kernel.silence import hint_for_silence  # noqa: PLC0415  # see `_attach_rows`

    return [
        ("answers", render.plain(f"no: {kernel['unanswered']}")),
        ("", hint_for_silence(kernel["name"])),
    ]


def _process_rows(kernel: dict[str, Any], now: float) -> Rows:
    ready_after = kernel["ready_after"]
    speed = f", ready after {ready_after:.2f} s" if ready_after is not None else ""
    umask = f", umask {render.plain(kernel['umask'])}" if kernel.get("umask") else ""
    if source := kernel.get("umask_source"):
        umask += f" (of its {render.plain(source)})"
    memory = f"{render.size(kernel['memory'])} in all its processes"
    return [
        ("process", f"pid {kernel['pid']}, {memory}{umask}"),
        ("started", f"{render.ago(kernel['started_at'], now)}{speed}"),
    ]


def _launch_rows(kernel: dict[str, Any]) -> Rows:
    rows = [("runs", _software(kernel))] if kernel["language"] else []
    if kernel.get("program"):
        origin = kernel.get("program_origin")
        rows.append(("program", render.plain(f"{kernel['program']} ({origin})")))
    if kernel.get("launcher_note"):
        rows.append(("launcher", f"{kernel['launcher']}, {render.plain(kernel['launcher_note'])}"))
    elif kernel["launcher"] == "fork":
        rows.append(("launcher", "fork"))
    return rows


def _limit_rows(kernel: dict[str, Any]) -> Rows:
    limits = kernel.get("limits") or {}
    words = [f"{key} {_limit(key, limit)}" for key, limit in limits.items() if limit is not None]
    rows = [("limits", ", ".join(words))] if words else []
    if text := kernel.get("limits_unenforced"):
        rows.append(("warning", render.plain(text)))
    return rows


def _limit(key: str, limit: float) -> str:
    return render.size(int(limit)) if key == "memory" else f"{limit:g}"


def _session_rows(kernel: dict[str, Any], now: float) -> Rows:
    """Return rows about the session that the kernel inherits from: names, and no values."""
    session = kernel.get("session")
    if not session:
        return []
    rows = []
    if session["taken_at"]:
        client, age = session["client"], render.ago(session["taken_at"], now)
        names = ", ".join(session["variables"]) or "no variables"
        rows.append(("session", render.plain(f"{client} (pid {session['pid']}), {age}: {names}")))
    if session["absent"]:
        rows.append(("", render.plain(f"not set there: {', '.join(session['absent'])}")))
    if session["unsent"]:
        unsent = ", ".join(session["unsent"])
        rows.append(("without", render.plain(f"{unsent}: no client has sent them")))
        rows.append(("", f"kconnd-ctl restart {kernel['name']} takes them from your session"))
    return rows


def _software(kernel: dict[str, Any]) -> str:
    """Return spec, language and implementation: ``python3 (python 3.11.7, ipython 9.1.0)``."""
    words = [kernel["language"], kernel.get("language_version") or ""]
    versions = " ".join(word for word in words if word)
    if kernel.get("implementation"):
        versions += f", {kernel['implementation']} {kernel.get('implementation_version') or ''}"
    return render.plain(f"{kernel['kernel_name']} ({versions.rstrip()})")


def _connection_rows(kernel: dict[str, Any], now: float) -> Rows:
    connection = kernel["connection"]
    if connection["encrypted"]:
        protection = "encrypted with CURVE"
    elif connection["transport"] == "ipc":
        protection = "closed to other users"
    else:
        protection = "NOT encrypted"
    ports = ", ".join(f"{name} {connection[f'{name}_port']}" for name in CHANNELS)
    clients = kernel.get("clients")
    attached = "" if clients is None else f", {clients} client{'' if clients == 1 else 's'}"
    activity = render.ago(kernel["last_activity"], now)
    return [
        ("activity", f"{kernel['execution_state'] or 'not known yet'}, last {activity}{attached}"),
        ("heartbeat", str(kernel["heartbeat"]["state"])),
        ("transport", f"{connection['transport']} {connection['ip']}, {protection}"),
        ("ports", ports),
        ("file", kernel["connection_file"] or "-"),
    ]


def _last_exit_rows(kernel: dict[str, Any], now: float) -> Rows:
    last_exit = kernel["last_exit"]
    if last_exit is None:
        return []
    lines = [f"{last_exit['reason']}, {render.ago(last_exit['at'], now)}"]
    if kernel["state"] != "running":
        output = last_exit["output_tail"].rstrip().splitlines()[-OUTPUT_LINES:]
        lines += [f"| {render.plain(line)}" for line in output]
    return [("last exit", "\n".join(lines))]
