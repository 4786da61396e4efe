"""Which account the runtime folder of a daemon without a front door belongs to.

That folder is named by uid (``/tmp/kconnd-UID``), and a uid can be given to another account while
kernels of the first one live. So the folder says whose it is: the account's name, and which state
folder, by device and inode. A daemon whose name and state folder are both others moves the folder
to a name that nothing looks for, and begins with an empty one. Kernels live on. A daemon of the
first account that still runs is waited for: it ends once its uid has another name
(`kconnd.daemon.tasks.account_watch`). Containers can share the folder and have other names for a
uid. So a folder in which something of another container lives is left as it is: the daemon does not
start.

A renamed account has its state folder still, so for it nothing changes.
"""

import contextlib
import json
import logging
import os
import re
import secrets
import time
from pathlib import Path

from kconnd.core.account_history import RuntimeOwner, parse_owner
from kconnd.core.kernel.locality import Lock, is_here
from kconnd.core.kernel.record import Origin
from kconnd.core.launch.kernel_files import is_facts, is_old_lock, live_dir
from kconnd.errors import LockedError
from kconnd.system.files.kernel_lock import look_at_lock, read_holder
from kconnd.system.files.private import write_private

OWNER = "owner.json"
LOCK = "daemon.lock"
WAIT_LIMIT_S = 15.0  # a daemon looks every 5 s whether its uid has another name
POLL_INTERVAL_S = 0.02
_WHOSE = "it belongs to another account with this uid"
_HINT = "give each a folder of its own: kconnd --runtime-dir DIR"

log = logging.getLogger("kconnd")


def settle_runtime(runtime: Path, state: Path, name: str, here: Origin) -> bool:
    """Move a runtime folder of another account out of the way, and say whose it is.

    Parameters
    ----------
    runtime, state : Path
        Folders that are there.
    name : str
        Of the account that we run as.
    here : Origin
        This machine and container.

    Returns
    -------
    bool
        False where the runtime folder was moved, and has to be made and settled again.

    Raises
    ------
    LockedError
        If a daemon of the other account does not end, or kernels in it are another container's.
    """
    found = state.stat()
    ours = RuntimeOwner(name, found.st_dev, found.st_ino)
    known = _read(runtime / OWNER)
    if known is None or known.is_same(ours):
        if known != ours:
            write_private(runtime / OWNER, json.dumps(ours.as_dict()).encode())
        return True
    _wait_for_daemon(runtime / LOCK)
    _check_kernels(Path(live_dir(str(runtime))), here)
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


def _wait_for_daemon(lock: Path) -> None:
    """Wait until the daemon of the other account has ended, as it does by itself.

    It is not signalled: its pid can mean another process here, where containers share the folder.
    """
    deadline = time.monotonic() + WAIT_LIMIT_S
    while look_at_lock(lock) is Lock.HELD:
        if time.monotonic() > deadline:
            raise LockedError(f"using {lock.parent}: {_WHOSE}, whose daemon runs", hint=_HINT)
        time.sleep(POLL_INTERVAL_S)


def _check_kernels(live: Path, here: Origin) -> None:
    """Refuse a folder with kernels that may be of another container or machine.

    What a shim says of itself is in its facts, and where its lock is here, too, in that.
    """
    for file in live.glob("*"):
        held = is_old_lock(file.name) and look_at_lock(file) is Lock.HELD
        if not held and not is_facts(file.name):
            continue
        holder = read_holder(file)
        if holder is None or not is_here(holder.origin, here):
            raise LockedError(f"using {live.parent}: {_WHOSE}, in another container", hint=_HINT)


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:32] or "_"
