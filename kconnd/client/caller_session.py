"""Collects the session of this process: what a kernel that it starts takes from its environment.

`kconnd.client` imports this module for requests that may launch a kernel. It sends the session only
to the daemon of the user who runs this process.

Rules. The umask is read from ``/proc`` (proc(5)), because `os.umask` can only replace it, and
another thread could create a file in between. Values that are not UTF-8 cannot be sent as JSON.
Such a folder on PATH, or such a variable of the locale or of a proxy, is left out; for a variable
that a profile names, the daemon refuses the request.
"""

from __future__ import annotations

import os
import sys

from kconnd.core.launch.session import (
    MAX_SESSION_BYTES,
    Session,
    is_sent_unasked,
    session_bytes,
    session_to_json,
)
from kconnd.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any


def caller_session(requested: Iterable[str] = ()) -> dict[str, Any]:
    """Return the session of this process, for the body of a request.

    Parameters
    ----------
    requested : iterable of str
        The names of the variables that the daemon has requested.

    Raises
    ------
    UsageError
        If the session is too large.
    """
    session = _collect(os.environ, tuple(sorted({*requested})))
    size = session_bytes(session)
    if size > MAX_SESSION_BYTES:
        values = {"PATH": session.path, **session.variables}
        largest = max(values, key=lambda name: len(values[name]))
        raise UsageError(
            f"sending this session's variables: they take {size} bytes, and the limit is "
            f"{MAX_SESSION_BYTES}",
            hint=f"shorten {largest}, or drop it from pass_env in the profile",
        )
    return session_to_json(session)


def _collect(env: Mapping[str, str], requested: tuple[str, ...]) -> Session:
    unasked = {name: env[name] for name in env if is_sent_unasked(name) and _is_utf8(env[name])}
    return Session(
        path=":".join(filter(_is_utf8, env.get("PATH", "").split(":"))),
        prefix=_own_prefix(),
        variables=unasked | {name: env[name] for name in requested if name in env},
        umask=_umask(),
        requested=requested,
    )


def _is_utf8(text: str) -> bool:
    """Return whether a text of the environment is valid UTF-8 (see os.fsdecode)."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _own_prefix() -> str:
    """Return the Python environment of this process, if it belongs to the user who runs it.

    An environment of the machine belongs to root. Of root itself, only an environment in the home
    folder is one of its own.
    """
    prefix, home = sys.prefix, os.path.expanduser("~")
    try:
        is_own = os.stat(prefix).st_uid == os.geteuid()
    except OSError:
        return ""
    is_own = is_own and (os.geteuid() != 0 or prefix.startswith(f"{home.rstrip('/')}/"))
    return prefix if is_own and _is_utf8(prefix) else ""


def _umask() -> int | None:
    try:
        with open("/proc/self/status", encoding="utf-8", errors="replace") as status:
            line = next((line for line in status if line.startswith("Umask:")), "")
    except OSError:
        return None
    return int(line.split()[1], 8) if line else None
