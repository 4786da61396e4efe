"""Record the account that owns a runtime folder on a machine without the front door.

The name of a runtime folder contains a uid (``/tmp/kconnd-UID``). A uid can be reassigned to
another account while kernels of the first account run. The folder therefore contains an owner file:
the account's name, and the device and inode of the account's state folder. A starting daemon
compares the owner file with its own account. If both the name and the state folder differ, the
daemon renames the runtime folder and creates an empty runtime folder. The kernels of the first
account keep running. If a daemon of the first account is still running, the new daemon waits until
that daemon has exited. The daemon of the first account exits when it detects that the login name of
its uid has changed (`kconnd.daemon.tasks.account_watch`).

Several containers can share a runtime folder and can have different login names for a uid. If a
process of another container uses the folder, the new daemon leaves the folder unchanged and does
not start.

A renamed account keeps its state folder and therefore its runtime folder.
"""

import contextlib
import json
import logging
import os
import re
import secrets
import time
from pathlib import Path

from kconnd.core.account_history import RuntimeOwner, parse_runtime_owner
from kconnd.core.kernel.locality import Lock, is_here
from kconnd.core.kernel.record import Origin
from kconnd.core.launch.kernel_files import is_facts, is_old_lock, live_dir
from kconnd.errors import LockedError
from kconnd.system.files.kernel_lock import probe_lock, read_holder
from kconnd.system.files.private import write_private

OWNER = "owner.json"
LOCK = "daemon.lock"
WAIT_LIMIT_S = 15.0  # longer than 5 s, the interval at which a daemon checks its uid's login name
POLL_INTERVAL_S = 0.02
_WRONG_ACCOUNT = "it belongs to another account with this uid"
_HINT = "use a different folder for each account: kconnd --runtime-dir DIR"

log = logging.getLogger("kconnd")


def settle_runtime(runtime: Path, state: Path, name: str, here: Origin) -> bool:
    """Claim a runtime folder for this account; rename a folder that belongs to another account.

    Parameters
    ----------
    runtime, state : Path
        The runtime folder and the state folder; both must exist.
    name : str
        The login name of this account.
    here : Origin
        The machine and container of this process.

    Returns
    -------
    bool
        False if the runtime folder was renamed. In this case, the caller creates a new runtime
        folder and calls this function again.

    Raises
    ------
    LockedError
        If a daemon of the other account does not exit in time, or if a kernel that uses the folder
        may run in another container.
    """
    status = state.stat()
    new_owner = RuntimeOwner(name, status.st_dev, status.st_ino)
    owner = _read(runtime / OWNER)
    if owner is None or owner.is_same(new_owner):
        if owner != new_owner:
            write_private(runtime / OWNER, json.dumps(new_owner.as_dict()).encode())
        return True
    _wait_for_daemon(runtime / LOCK)
    _check_kernels(Path(live_dir(str(runtime))), here)
    aside = runtime.with_name(f"{runtime.name}.{_safe(owner.name)}.{secrets.token_hex(4)}")
    runtime.rename(aside)
    log.warning(
        "%s belongs to the account %s, and this daemon runs as %s: the folder was renamed to %s; "
        "its kernels keep running",
        *(runtime, owner.name, name, aside),
        extra={"KCONND_EVENT": "put-aside", "KCONND_OWNER": owner.name},
    )
    return False


def list_put_aside(runtime: Path) -> list[Path]:
    """Return the renamed runtime folders of earlier accounts."""
    pattern = re.compile(rf"{re.escape(runtime.name)}\.[A-Za-z0-9_-]+\.[0-9a-f]{{8}}")
    with contextlib.suppress(OSError):
        names = sorted(name for name in os.listdir(runtime.parent) if pattern.fullmatch(name))  # noqa: PTH208  # the names alone
        paths = [runtime.with_name(name) for name in names]
        return [path for path in paths if path.lstat().st_uid == os.geteuid()]
    return []


def _read(file: Path) -> RuntimeOwner | None:
    """Read an owner file; None if the file is missing (an older kconnd wrote none) or invalid."""
    try:
        return parse_runtime_owner(file.read_bytes())
    except (OSError, ValueError):
        return None


def _wait_for_daemon(lock: Path) -> None:
    """Wait until the daemon of the other account has exited.

    No signal is sent to the daemon: it may run in another container, and its pid may then be that
    of an unrelated process in this container.
    """
    deadline = time.monotonic() + WAIT_LIMIT_S
    while probe_lock(lock) is Lock.HELD:
        if time.monotonic() > deadline:
            raise LockedError(
                f"using {lock.parent}: {_WRONG_ACCOUNT}, whose daemon is running", hint=_HINT
            )
        time.sleep(POLL_INTERVAL_S)


def _check_kernels(live: Path, here: Origin) -> None:
    """Refuse a folder if one of its kernels may run in another container or on another machine.

    Each shim records its origin in its facts file and in its lock file. The folder contains the
    facts files of all kernels, but lock files only of kernels that an older kconnd started.
    """
    for file in live.glob("*"):
        is_held = is_old_lock(file.name) and probe_lock(file) is Lock.HELD
        if not is_held and not is_facts(file.name):
            continue
        holder = read_holder(file)
        if holder is None or not is_here(holder.origin, here):
            raise LockedError(
                f"using {live.parent}: {_WRONG_ACCOUNT}, in another container", hint=_HINT
            )


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:32] or "_"
