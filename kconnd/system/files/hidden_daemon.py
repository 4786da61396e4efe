"""Detects a daemon of this user whose /tmp is another folder than the /tmp of this process.

A service with PrivateTmp= and a login with pam_namespace each have a /tmp of their own. The sockets
of users who do not linger are below /tmp, so a client in another session cannot reach the daemon.
The lock of the state folder names the daemon.
"""

import os
import re
from pathlib import Path

from kconnd.private_tmp import TMP
from kconnd.system.files.private import is_locked
from kconnd.system.files.regular import MAX_OWN_BYTES, read_regular
from kconnd.system.process.processes import pid_namespace

CURE = (
    "loginctl enable-linger, then kill {pid}: kernels keep running, and the next daemon puts its "
    "sockets below $XDG_RUNTIME_DIR, which all sessions share; or, for a service, PrivateTmp=no"
)


def lock_note(pid: int) -> str:
    """Return the text by which a daemon with this pid describes itself in its lock files."""
    return f"kconnd, pid {pid} of {os.uname().nodename}\n{pid_namespace()}"


def find_hidden_daemon(state_dir: Path) -> int | None:
    """Return the pid of the daemon if its /tmp is another folder; else None."""
    path = state_dir / "daemon.lock"
    try:
        note = read_regular(path, MAX_OWN_BYTES).decode(errors="replace")
        match = re.match(r"kconnd, pid (\d+) of ", note)
        if match is None or note != lock_note(int(match[1])) or not is_locked(path):
            return None
    except OSError:
        return None
    pid = int(match[1])
    return pid if has_other_tmp(pid) else None


def has_other_tmp(pid: int) -> bool:
    """Check whether /tmp is another folder for a process than for this one.

    If the folder of the process cannot be read, it counts as the same.
    """
    try:
        theirs, ours = Path(f"/proc/{pid}/root{TMP}").stat(), Path(TMP).stat()
    except OSError:
        return False
    return (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino)


def describe_hidden_daemon(pid: int) -> str:
    """Describe a daemon that this session cannot reach."""
    return f"the daemon, pid {pid}, has another /tmp than this session, so it cannot be reached"
