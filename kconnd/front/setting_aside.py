"""What root's commands do about a uid that went from one account to another.

``kconnd-front --put-aside UID`` is run by ``kconnd-aside@UID.service`` once that has stopped the
uid's daemon. ``kconnd-front --hand-over UID`` is for an administrator who has renamed an account
(usermod -l): it gives the uid back what was put aside last, live kernels included, and puts aside
what has come meanwhile.
"""

import subprocess
import time
from pathlib import Path
from shutil import which

from kconnd.core.account_history import is_usable
from kconnd.errors import KconndError, UsageError
from kconnd.system.files.account_files import AccountFiles
from kconnd.system.http.peer import look_up

STOP_LIMIT_S = 60.0


def parse_uid(text: str) -> int:
    """Read a uid from the command line.

    Raises
    ------
    UsageError
        If it is none that a process can have.
    """
    uid = (
        int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(1 << 32)) else -1
    )
    if not is_usable(uid):
        raise UsageError(f"{text!r} is not the uid of a user", hint="'id -u NAME' prints it")
    return uid


def put_aside(uid: int, files: AccountFiles) -> str:
    """Put aside what is kept for a uid; give what to tell."""
    aside = files.put_aside(uid, time.time())
    if aside is None:
        return f"nothing is known of uid {uid}, so nothing was put aside"
    return f"what was kept for {aside.name}, uid {uid}, is in {files.place_of(aside)}"


def hand_over(uid: int, files: AccountFiles) -> str:
    """Stop a uid's daemon and give it back what was put aside; give what to tell.

    Raises
    ------
    KconndError
        If nothing is put aside, the uid has no account, or its daemon cannot be stopped.
    """
    name, _ = look_up(uid)
    if not name:
        raise KconndError(
            f"handing over what is put aside of uid {uid}: it has no account",
            hint=f"see 'getent passwd {uid}'",
        )
    _stop_daemon(uid)
    aside = files.hand_over(uid, name, time.time())
    return f"{name}, uid {uid}, has what was put aside of {aside.name} at {aside.at}"


def _stop_daemon(uid: int) -> None:
    """Stop a daemon, which ends no kernel; where systemd does not run there is none."""
    if not Path("/run/systemd/system").is_dir():
        return
    words = [
        which("systemctl") or "/usr/bin/systemctl",
        "stop",
        f"kconnd@{uid}.socket",
        f"kconnd@{uid}.service",
    ]
    try:
        subprocess.run(words, capture_output=True, text=True, check=True, timeout=STOP_LIMIT_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise KconndError(f"stopping the daemon of uid {uid}: {error}") from error
