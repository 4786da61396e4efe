"""What the front door believes of what an owner's daemon says: fields of the right type, no more.

An owner's daemon is that owner's program. It may say anything about its own kernels, and
nothing about anybody else's: whose they are is known without it.
"""

from typing import Any

MOST = 1000  # kernels of one owner
LONGEST = 1000  # characters of a text
_TEXT, _NUMBER = (str, type(None)), (int, float, type(None))
FIELDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "state": (str,),
    "reason": (str,),
    "profile_status": (str,),
    "restarts": (int,),
    "generation": (int,),
    "pid": _NUMBER,
    "memory": _NUMBER,
    "clients": _NUMBER,
    "execution_state": _TEXT,
    "last_activity": _TEXT,
    "started_at": _TEXT,
    "next_attempt_at": _TEXT,
    "launcher": _TEXT,
    "language": _TEXT,
}


def believed(reply: object, uid: int, owner: str) -> list[dict[str, Any]] | None:
    """Take what makes sense of a daemon's list of kernels; None where nothing does.

    Parameters
    ----------
    reply : object
        What it sent, as JSON.
    uid, owner : int and str
        Whose daemon it is.
    """
    rows = reply.get("kernels") if isinstance(reply, dict) else None
    if not isinstance(rows, list):
        return None
    sound = (_row(row) for row in rows[:MOST])
    return [{**row, "owner": owner, "uid": uid} for row in sound if row is not None]


def _row(row: object) -> dict[str, Any] | None:
    if not isinstance(row, dict):
        return None
    found = {key: row.get(key) for key in FIELDS}
    for key, value in found.items():
        if not isinstance(value, FIELDS[key]) or len(str(value)) > LONGEST:
            return None
    heartbeat = row.get("heartbeat")
    state = heartbeat.get("state") if isinstance(heartbeat, dict) else None
    known = state in {"alive", "missed", "unresponsive"}
    return {**found, "heartbeat": {"state": state if known else "unknown", "last_at": None}}
