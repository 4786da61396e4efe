"""A kernel's lock: whether a process holds it, and the identity of the holder.

A shim writes its facts into its facts file and into its lock file: the pids and start times of
itself and its kernel, the boot id, the host name and the pid namespace. A held lock therefore
identifies its holder even if the facts file was removed or is in a folder of another machine.
"""

import fcntl
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kconnd.core.kernel.locality import LOCAL_FILE_SYSTEMS, Lock, file_system_of
from kconnd.core.kernel.record import Origin
from kconnd.system.process.processes import ProcessId

MAX_CONTENT_BYTES = 4096
OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Holder:
    """A shim, as its lock file or its facts file describes it.

    Parameters
    ----------
    origin : Origin
        The system on which the shim runs or ran; ``machine`` is empty.
    shim, kernel : ProcessId
        The processes of the shim and of its kernel.
    """

    origin: Origin
    shim: ProcessId
    kernel: ProcessId


def probe_lock(path: Path) -> Lock:
    """Check whether a process holds a lock; in doubt, the lock counts as held.

    The check takes and releases a shared lock, so two concurrent checks do not affect each other.
    On NFS, an exclusive lock would also require that the file is open for writing.
    """
    try:
        descriptor = os.open(path, OPEN_FLAGS)
    except FileNotFoundError:
        return Lock.MISSING
    except OSError:
        return Lock.HELD
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return Lock.HELD
    finally:
        os.close(descriptor)
    return Lock.FREE


def read_holder(path: Path) -> Holder | None:
    """Read the shim that a lock file or a facts file describes; None if the content is invalid."""
    try:
        descriptor = os.open(path, OPEN_FLAGS)
    except OSError:
        return None
    try:
        return _parse(json.loads(os.read(descriptor, MAX_CONTENT_BYTES).partition(b"\n")[0]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    finally:
        os.close(descriptor)


def _parse(content: dict[str, Any]) -> Holder:
    origin = Origin(
        machine="",
        host=str(content.get("host", "")),
        boot_id=str(content["boot_id"]),
        pid_namespace=str(content.get("pid_namespace", "")),
    )
    shim, kernel = (ProcessId(*map(int, content[key])) for key in ("shim", "kernel"))
    return Holder(origin, shim, kernel)


@cache  # cached until the daemon exits: reading thousands of mounts takes milliseconds
def is_local(folder: Path) -> bool:
    """Check whether a folder is on a file system that only one machine at a time can mount."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
        return file_system_of(mounts.splitlines(), str(folder.resolve())) in LOCAL_FILE_SYSTEMS
    except OSError:
        return False
