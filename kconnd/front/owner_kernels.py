"""What the front door takes of an owner's daemon's list of kernels.

An owner's daemon is that owner's program. It may say anything about its own kernels, and
nothing about anybody else's: whose they are is known without it, and a process has to be
theirs. Each field is typed and bounded by `kconnd.core.untrusted_reply`; a row with a field that
makes no sense is left out.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kconnd.core.untrusted_reply import KERNEL_FIELDS, MAX_ROWS, record

SHOWN = (
    *("name", "state", "reason", "profile_status", "restarts", "generation", "pid", "memory"),
    *("clients", "execution_state", "last_activity", "started_at", "next_attempt_at"),
    *("launcher", "language"),
)
FIELDS = {key: KERNEL_FIELDS[key] for key in SHOWN}
_read_row = record(FIELDS)
HEARTBEATS = ("alive", "missed", "unresponsive")


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
    sound = [found for row in rows[:MAX_ROWS] if (found := _row(row)) is not None]
    for row in sound:
        if row["pid"] is not None and user_of(row["pid"]) != uid:
            row["pid"] = None
    return [{**row, "owner": owner, "uid": uid} for row in sound]


def _row(row: object) -> dict[str, Any] | None:
    if not isinstance(row, dict):
        return None
    try:
        found: dict[str, Any] = _read_row(row)
    except ValueError:
        return None
    return {**found, "heartbeat": _heartbeat(row)}


def _heartbeat(row: Mapping[str, Any]) -> dict[str, Any]:
    heartbeat = row.get("heartbeat")
    state = heartbeat.get("state") if isinstance(heartbeat, dict) else None
    known = state in HEARTBEATS
    return {"state": state if known else "unknown", "last_at": None}
