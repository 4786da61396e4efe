"""Which account the runtime folder of a daemon without a front door belongs to.

That folder is named by uid (``/tmp/kconnd-UID``), and a uid can be given to another account while
kernels of the first one live. So the folder says whose it is: the account's name, and which state
folder, by device and inode. A daemon whose name and state folder are both others moves the folder
to a name that nothing looks for, and begins with an empty one. Kernels live on. A daemon of the
first account that still runs is ended before: it would serve whoever has its uid.

A renamed account has its state folder still, so for it nothing changes.
"""

import contextlib
import json
import logging
import os
import re
import secrets
import signal
import time
from pathlib import Path

from kconnd.core.accounts import RuntimeOwner, parse_owner
from kconnd.errors import LockedError
from kconnd.system.files import is_locked, write_private
from kconnd.system.processes import ProcessId, read_stat, send_signal

OWNER = "owner.json"
LOCK = "daemon.lock"
STOP_LIMIT_S = 10.0
POLL_INTERVAL_S = 0.02
_PID = re.compile(rb"pid ([0-9]{1,9})")

log = logging.getLogger("kconnd")


def settle_runtime(runtime: Path, state: Path, name: str) -> bool:
    """Move a runtime folder of another account out of the way, and say whose it is.

    Parameters
    ----------
    runtime, state : Path
        Folders that are there.
    name : str
        Of the account that we run as.

    Returns
    -------
    bool
        False where the runtime folder was moved, and has to be made and settled again.

    Raises
    ------
    LockedError
        If a daemon of the other account does not end.
    """
    found = state.stat()
    ours = RuntimeOwner(name, found.st_dev, found.st_ino)
    known = _read(runtime / OWNER)
    if known is None or known.is_same(ours):
        if known != ours:
            write_private(runtime / OWNER, json.dumps(ours.as_dict()).encode())
        return True
    _stop_daemon(runtime / LOCK)
    aside = runtime.with_name(f"{runtime.name}.{_safe(known.name)}.{secrets.token_hex(4)}")
    runtime.rename(aside)
    log.warning(
        "%s was of the account %s, and this is %s: it is put aside as %s, and kernels that "
        "live there are left running",
        *(runtime, known.name, name, aside),
        extra={"KCONND_EVENT": "put-aside", "KCONND_OWNER": known.name},
    )
    return False


def list_put_aside(runtime: Path) -> list[Path]:
    """List the folders that were moved out of the way of a runtime folder."""
    pattern = re.compile(rf"{re.escape(runtime.name)}\.[A-Za-z0-9_-]+\.[0-9a-f]{{8}}")
    with contextlib.suppress(OSError):
        names = sorted(name for name in os.listdir(runtime.parent) if pattern.fullmatch(name))  # noqa: PTH208  # names alone
        paths = [runtime.with_name(name) for name in names]
        return [path for path in paths if path.lstat().st_uid == os.geteuid()]
    return []


def _read(file: Path) -> RuntimeOwner | None:
    """Read whose a folder is; None where nothing says it, as before there was such a file."""
    try:
        return parse_owner(file.read_bytes())
    except (OSError, ValueError):
        return None


def _stop_daemon(lock: Path) -> None:
    """End the daemon that holds a lock, which ends no kernel."""
    deadline = time.monotonic() + STOP_LIMIT_S
    found = _PID.search(lock.read_bytes()) if lock.exists() else None
    if found is not None and is_locked(lock):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            pid = int(found[1])
            send_signal(ProcessId(pid, read_stat(pid)[2]), signal.SIGTERM)
    while is_locked(lock):
        if time.monotonic() > deadline:
            raise LockedError(
                f"ending the daemon of another account: {lock} is still held",
                hint="ask an administrator to end it",
            )
        time.sleep(POLL_INTERVAL_S)


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:32] or "_"
