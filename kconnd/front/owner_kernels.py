"""Checks the list of kernels that an owner's daemon sends to the front door.

The owner controls the daemon, so the daemon can send wrong data about its owner's kernels. However,
it must not be able to report kernels or processes of other users. The front door therefore ignores
the owner in the reply, and accepts a pid only if the process belongs to the owner.
`kconnd.core.untrusted_reply` checks the type and size of each field. A row with an invalid field is
dropped.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kconnd.core.untrusted_reply import KERNEL_FIELDS, MAX_ROWS, record

FIELD_NAMES = (
    *("name", "state", "reason", "profile_status", "restarts", "generation", "pid", "memory"),
    *("clients", "execution_state", "last_activity", "started_at", "next_attempt_at"),
    *("launcher", "language"),
)
FIELDS = {key: KERNEL_FIELDS[key] for key in FIELD_NAMES}
_read_fields = record(FIELDS)
HEARTBEATS = ("alive", "missed", "unresponsive")


def sound_kernels(
    reply: object, uid: int, owner: str, user_of: Callable[[int], int | None]
) -> list[dict[str, Any]] | None:
    """Return the valid rows of a daemon's list of kernels; None if the reply is not a list.

    Parameters
    ----------
    reply : object
        The daemon's reply, parsed as JSON.
    uid, owner : int and str
        The uid and name of the daemon's owner, which replace those in the reply.
    user_of : callable
        A function that returns the uid of a process by its pid; None if the uid is unknown.
    """
    rows = reply.get("kernels") if isinstance(reply, dict) else None
    if not isinstance(rows, list):
        return None
    sound_rows = [row for raw in rows[:MAX_ROWS] if (row := _read_row(raw)) is not None]
    for row in sound_rows:
        if row["pid"] is not None and user_of(row["pid"]) != uid:
            row["pid"] = None
    return [{**row, "owner": owner, "uid": uid} for row in sound_rows]


def _read_row(raw: object) -> dict[str, Any] | None:
    if not isinstance(raw, dict):
        return None
    try:
        row: dict[str, Any] = _read_fields(raw)
    except ValueError:
        return None
    return {**row, "heartbeat": _heartbeat(raw)}


def _heartbeat(raw: Mapping[str, Any]) -> dict[str, Any]:
    heartbeat = raw.get("heartbeat")
    state = heartbeat.get("state") if isinstance(heartbeat, dict) else None
    return {"state": state if state in HEARTBEATS else "unknown", "last_at": None}
