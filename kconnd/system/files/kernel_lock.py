"""A kernel's lock: whether some process holds it, and what the locked file says of that process.

The shim writes into the file that it locks what it writes into its facts: its own pid and start
time, the kernel's, the boot, the host's name and the pid namespace. So whoever finds the lock held
can tell by whom, also where the facts are in a folder of another machine or were removed.
"""

import fcntl
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kconnd.core.kernel.locality import LOCAL_KINDS, Lock, kind_of_mount
from kconnd.core.kernel.record import Origin
from kconnd.system.process.processes import ProcessId

MAX_BYTES = 4096  # of what is read from a locked file


@dataclass(frozen=True)
class Holder:
    """A shim, as the file says that it locked or as its facts say.

    Parameters
    ----------
    origin : Origin
        Where it runs or ran; its machine-id is not told.
    shim, kernel : ProcessId
        Its two processes.
    """

    origin: Origin
    shim: ProcessId
    kernel: ProcessId


def look_at_lock(path: Path) -> Lock:
    """Tell whether some process holds a lock; what cannot be told counts as held.

    The lock is shared for the moment of the look, so that those who look see no one but the holder.
    Over NFS, a file has to be open for writing to be locked for oneself alone.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Lock.MISSING
    except OSError:
        return Lock.HELD
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return Lock.HELD
    finally:
        os.close(file)
    return Lock.FREE


def read_holder(path: Path) -> Holder | None:
    """Read a locked file, or a shim's facts; None where that says nothing that makes sense."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _parse(json.loads(os.read(file, MAX_BYTES).partition(b"\n")[0]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    finally:
        os.close(file)


def _parse(content: dict[str, Any]) -> Holder:
    origin = Origin(
        machine="",
        host=str(content.get("host", "")),
        boot_id=str(content["boot_id"]),
        pid_namespace=str(content.get("pid_namespace", "")),
    )
    shim, kernel = (ProcessId(*map(int, content[key])) for key in ("shim", "kernel"))
    return Holder(origin, shim, kernel)


@cache  # for a daemon's life: with thousands of mounts, each look takes milliseconds
def is_local(folder: Path) -> bool:
    """Tell whether a folder is on a file system that no other running system can have mounted."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
        return kind_of_mount(mounts.splitlines(), str(folder.resolve())) in LOCAL_KINDS
    except OSError:
        return False
