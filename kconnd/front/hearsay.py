"""What the front door believes of what an owner's daemon says: fields that make sense, no more.

An owner's daemon is that owner's program. It may say anything about its own kernels, and
nothing about anybody else's: whose they are is known without it, and a process has to be
theirs. An administrator's terminal shows what is let through here, so words are of a fixed
set where there is one, and elsewhere without a character that steers a terminal.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from kconnd.core.lifecycle import State
from kconnd.core.names import PATTERN
from kconnd.core.reload import CHANGED, CURRENT, ORPHANED

MOST = 1000  # kernels of one owner
LONGEST = 1000  # characters of a text
LARGEST = 1 << 53  # a number that every reader of JSON has exactly

Check = Callable[[object], bool]
_NAME = re.compile(f"{PATTERN}(@{PATTERN})?")
_WORD = re.compile(r"[a-z]{1,20}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)


def _matches(pattern: re.Pattern[str]) -> Check:
    return lambda value: isinstance(value, str) and bool(pattern.fullmatch(value))


def _one_of(*known: str) -> Check:
    return lambda value: isinstance(value, str) and value in known


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


FIELDS: dict[str, Check] = {
    "name": _matches(_NAME),
    "state": _one_of(*State),
    "reason": _is_text,
    "profile_status": _one_of(CURRENT, CHANGED, ORPHANED),
    "restarts": _is_count,
    "generation": _is_count,
    "pid": _or_none(_is_count),
    "memory": _or_none(_is_count),
    "clients": _or_none(_is_count),
    "execution_state": _or_none(_one_of("busy", "idle", "unknown")),
    "last_activity": _or_none(_matches(_TIME)),
    "started_at": _or_none(_matches(_TIME)),
    "next_attempt_at": _or_none(_matches(_TIME)),
    "launcher": _or_none(_matches(_WORD)),
    "language": _or_none(_is_text),
}


def believed(
    reply: object, uid: int, owner: str, user_of: Callable[[int], int | None]
) -> list[dict[str, Any]] | None:
    """Take what makes sense of a daemon's list of kernels; None where nothing does.

    Parameters
    ----------
    reply : object
        What it sent, as JSON.
    uid, owner : int and str
        Whose daemon it is.
    user_of : callable
        Gives the uid of a process.
    """
    rows = reply.get("kernels") if isinstance(reply, dict) else None
    if not isinstance(rows, list):
        return None
    sound = [found for row in rows[:MOST] if (found := _row(row)) is not None]
    for row in sound:
        if row["pid"] is not None and user_of(row["pid"]) != uid:
            row["pid"] = None
    return [{**row, "owner": owner, "uid": uid} for row in sound]


def _row(row: object) -> dict[str, Any] | None:
    if not isinstance(row, dict):
        return None
    found = {key: row.get(key) for key in FIELDS}
    if not all(check(found[key]) for key, check in FIELDS.items()):
        return None
    return {**_printable(found), "heartbeat": _heartbeat(row)}


def _printable(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: "".join(char if char.isprintable() else "?" for char in value)
        if isinstance(value, str)
        else value
        for key, value in found.items()
    }


def _heartbeat(row: Mapping[str, Any]) -> dict[str, Any]:
    heartbeat = row.get("heartbeat")
    state = heartbeat.get("state") if isinstance(heartbeat, dict) else None
    known = state in ("alive", "missed", "unresponsive")
    return {"state": state if known else "unknown", "last_at": None}
