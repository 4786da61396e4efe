"""``kconnd-ctl check`` and ``kconnd-ctl schema``: both work without a daemon.

Rules. Both verbs read and change nothing, and start no kernel. One run reports all faults and
warnings. Each begins a line in the format ``FILE:LINE:COLUMN: TEXT``, from which editors and CI
systems can open the file at the fault; the indented lines below it show the line of the file with a
caret. pydantic and yaml are imported in the functions that need them.

``check`` reads the folders of the daemon that answers. It asks this daemon for its folders only; it
reads and looks itself, as the user who runs it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from kconnd.cli import render
from kconnd.cli.batch import client_for
from kconnd.core.paths import FRONT_SOCKET, SYSTEM_CONFIGS_DIR, config_dir
from kconnd.errors import KconndError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from kconnd.cli.command_line import Arguments
    from kconnd.core.launch.session import Session
    from kconnd.system.profiles.faults import Fault
    from kconnd.system.profiles.review import DaemonFacts, Review

HEALTH_LIMIT_S = 5.0  # the time limit for the daemon's answer
FAULT_KEYS = ("file", "line", "column", "path", "message", "hint")


def check(arguments: Arguments) -> int:
    """Check profiles, and print their faults and the reasons for which starts would fail.

    Returns
    -------
    int
        The exit code: 0 without faults, 1 with faults, 2 for a path that does not exist. Warnings
        do not change it.
    """
    from kconnd.system.profiles.review import review  # noqa: PLC0415  # for this verb only

    health = ask_daemon(arguments)
    daemon = facts_of(health)
    result = review(daemon, arguments.paths, find_session)
    if arguments.paths and result.missing:
        for path in result.missing:
            print(render.plain(f"kconnd-ctl: check: {path} does not exist"), file=sys.stderr)
        return UsageError.exit_code
    if arguments.json:
        render.print_json(_to_json(result, arguments.paths, daemon, health))
    else:
        read = [] if arguments.paths else [_describe_folders(result, daemon, health)]
        print(*_to_lines(result), *read, _summary(result), sep="\n")
    return 1 if result.loaded.faults else 0


def schema(_arguments: Arguments) -> int:
    """Print the JSON Schema of a profile file."""
    from kconnd.core.profile.schema import profile_schema  # noqa: PLC0415  # it imports pydantic

    print(json.dumps(profile_schema(), indent=2))
    return 0


def ask_daemon(arguments: Arguments) -> Mapping[str, Any] | None:
    """Return the description of the daemon that answers; None if there is none.

    The field ``alive`` is added: the names of the kernels that have a process. Root has no daemon
    of its own behind a front door.
    """
    is_explicit = arguments.socket or os.environ.get("KCONND_SOCKET")
    if os.geteuid() == 0 and not is_explicit and Path(FRONT_SOCKET).exists():
        return None
    client = client_for(arguments)
    try:
        health: Mapping[str, Any] = client.get("/v1/health", limit=HEALTH_LIMIT_S)
    except KconndError:
        return None
    try:
        kernels = client.get("/v1/kernels", limit=HEALTH_LIMIT_S)["kernels"]
    except KconndError:  # it is still adopting kernels
        return health
    return {**health, "alive": [kernel["name"] for kernel in kernels if kernel["pid"]]}


def facts_of(health: Mapping[str, Any] | None) -> DaemonFacts:
    """Return the facts about a daemon or, without one, those about a new daemon.

    A daemon of an earlier version does not tell all of them.
    """
    from kconnd.system.machine import own_user  # noqa: PLC0415  # for this verb only
    from kconnd.system.profiles.review import LOCAL_LAUNCHERS, SYSTEMD, DaemonFacts  # noqa: PLC0415  # see above

    has_front = Path(FRONT_SOCKET).exists()
    launchers = [*([SYSTEMD] if has_front else []), *LOCAL_LAUNCHERS]
    if health is None:
        own = [config_dir(os.environ, own_user().home)]
        return DaemonFacts([SYSTEM_CONFIGS_DIR], own, launchers=launchers)
    return DaemonFacts(
        health.get("system_configs", [SYSTEM_CONFIGS_DIR]),
        health["configs"],
        health.get("kernelspec_dirs"),
        health.get("home", ""),
        health.get("launchers", launchers),
        health.get("alive"),
        health.get("pid"),
    )


def find_session(names: tuple[str, ...]) -> Session:
    """Return the session of this process, which ``kconnd-ctl start`` would send."""
    from kconnd.client.caller_session import caller_session  # noqa: PLC0415  # for this verb only
    from kconnd.core.launch.session import parse_session  # noqa: PLC0415  # for this verb only

    return parse_session(caller_session(names))


def headline(fault: Fault, kind: str = "") -> str:
    """Describe a fault or, with ``warning`` as the kind, a warning, without its hint."""
    mark = f"{kind}: " if kind else ""
    key = f"{fault.path}: " if fault.path else ""
    return render.plain(f"{fault.file}:{fault.line}:{fault.column}: {mark}{key}{fault.message}")


def _describe(fault: Fault, kind: str) -> str:
    hint = f"; {fault.hint}" if fault.hint else ""
    return headline(fault, kind) + render.plain(hint)


def _to_lines(result: Review) -> Iterator[str]:
    """Yield the lines about the faults, the warnings and the overridden profiles."""
    yield from _with_excerpts(result.loaded.faults, result)
    yield from _with_excerpts(result.warnings, result, "warning")
    yield from map(render.plain, result.loaded.overrides)
    yield from (render.plain(f"not looked at: {sentence}") for sentence in result.unseen)


def _with_excerpts(faults: Sequence[Fault], result: Review, kind: str = "") -> Iterator[str]:
    from kconnd.cli.source_excerpt import excerpt  # noqa: PLC0415  # for faults only

    for fault in faults:
        yield _describe(fault, kind)
        yield from excerpt(result.lines.get((fault.file, fault.line), ""), fault.column)


def _describe_folders(result: Review, daemon: DaemonFacts, health: Mapping[str, Any] | None) -> str:
    """Name the folders that were read; a folder of the machine that is missing is usual."""
    shown = [name for name in [*daemon.system, *daemon.own] if name not in result.missing]
    shown += [f"{name} (does not exist)" for name in daemon.own if name in result.missing]
    source = f"of the daemon on {health['socket']}" if health else "by default: no daemon answers"
    return render.plain(f"read {', '.join(shown)} ({source})")


def _summary(result: Review) -> str:
    counts = [
        _count(len(result.loaded.profiles), "profile"),
        _count(len(result.loaded.faults), "fault"),
    ]
    if result.warnings:
        counts.append(_count(len(result.warnings), "warning"))
    return ", ".join(counts)


def _to_json(
    result: Review, paths: Sequence[str], daemon: DaemonFacts, health: Mapping[str, Any] | None
) -> dict[str, Any]:
    profiles = [
        {"name": name, "file": profile.file, "line": profile.line}
        for name, profile in result.loaded.profiles.items()
    ]
    return {
        "profiles": profiles,
        "faults": [_fault_to_json(fault) for fault in result.loaded.faults],
        "warnings": [_fault_to_json(fault) for fault in result.warnings],
        "not_looked_at": list(result.unseen),
        "read": list(paths) or [*daemon.system, *daemon.own],
        "daemon": health["socket"] if health else None,
    }


def _fault_to_json(fault: Fault) -> dict[str, Any]:
    return {key: getattr(fault, key) for key in FAULT_KEYS}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
