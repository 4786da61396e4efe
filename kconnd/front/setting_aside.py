"""Implements ``kconnd-front --put-aside UID`` and ``kconnd-front --hand-over UID``.

``kconnd-aside@UID.service`` runs ``--put-aside`` after it has stopped the uid's daemon. An
administrator runs ``--hand-over`` after renaming an account (usermod -l). kconnd has then put the
files of the old name aside, because it took the new name for a new account. ``--hand-over``
restores these files, including those of live kernels. The files that the renamed account has
created in the meantime are put aside instead.
"""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from shutil import which

from kconnd.core.account_history import is_usable_uid
from kconnd.errors import KconndError, UsageError
from kconnd.system.files.account_files import AccountFiles
from kconnd.system.http.peer import look_up_user

STOP_TIMEOUT_S = 60.0
MAX_UID_DIGITS = len(str(1 << 32))


def parse_uid(text: str) -> int:
    """Parse a uid from the command line.

    Raises
    ------
    UsageError
        If no process can have this uid.
    """
    is_number = text.isascii() and text.isdecimal() and len(text) <= MAX_UID_DIGITS
    uid = int(text) if is_number else -1
    if not is_usable_uid(uid):
        raise UsageError(f"{text!r} is not the uid of a user", hint="'id -u NAME' prints the uid")
    return uid


def put_aside(uid: int, files: AccountFiles) -> str:
    """Put aside the files of a uid; return the message to print."""
    aside = files.put_aside(uid, time.time())
    if aside is None:
        return f"no account is recorded for uid {uid}, so there is nothing to put aside"
    return f"moved the files of {aside.name}, uid {uid}, to {files.place_of(aside)}"


def hand_over(
    uid: int, files: AccountFiles, stop_daemon: Callable[[int], None] | None = None
) -> str:
    """Stop a uid's daemon and restore the uid's earlier files; return the message to print.

    Parameters
    ----------
    uid : int
        The uid of the renamed account.
    files : AccountFiles
        The object that records the account of each uid and the files that were put aside.
    stop_daemon : callable, optional
        A function that stops the daemon of a uid; by default with systemctl.

    Raises
    ------
    KconndError
        If no files are put aside, if the uid has no account, or if its daemon cannot be stopped.
    """
    name, _ = look_up_user(uid)
    if not name:
        raise KconndError(
            f"handing over the files that are put aside for uid {uid}: the uid has no account",
            hint=f"see 'getent passwd {uid}'",
        )
    (stop_daemon or _stop_daemon)(uid)
    aside = files.hand_over(uid, name, time.time())
    return f"{name}, uid {uid}, has the files back that were put aside of {aside.name}, {aside.at}"


def _stop_daemon(uid: int) -> None:
    """Stop the daemon of a uid; kernels keep running.

    Do nothing if systemd does not run: the front door starts daemons only through systemd.
    """
    if not Path("/run/systemd/system").is_dir():
        return
    systemctl = which("systemctl") or "/usr/bin/systemctl"
    command = [systemctl, "stop", f"kconnd@{uid}.socket", f"kconnd@{uid}.service"]
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=STOP_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise KconndError(f"stopping the daemon of uid {uid}: {error}") from error
