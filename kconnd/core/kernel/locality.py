"""Decides whether a recorded kernel belongs to this system or to another system.

A system is a machine or a container. Several systems can share a state folder, and some of them
have the same machine-id. The shim of a kernel takes a lock in the state folder before it spawns the
kernel, and holds the lock until the kernel's last process has exited. The locked file names the
system of the shim. Containers of one machine have the same boot id, so a file that names a
container also contains the container's pid namespace.

Rules. In doubt, a daemon treats a kernel as elsewhere. A daemon changes no file of a kernel that is
elsewhere. If the lock is held and the kernel's process is not found here, the kernel is elsewhere,
even if the record names this system. On a file system that only this machine mounts, a free lock
proves that the kernel has exited. On a network file system, a lock can be lost while the kernel
runs; a free lock proves nothing there, and the host names in the record and in the locked file
decide.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from kconnd.core.kernel.lifecycle import LIVE, State
from kconnd.core.kernel.record import Origin

# Only one machine at a time can mount these file systems, so this machine sees every lock on them.
LOCAL_FILE_SYSTEMS = frozenset(
    ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "jfs", "reiserfs")
) | {"tmpfs", "ramfs", "overlay"}


class Lock(StrEnum):
    """The state of a kernel's lock."""

    HELD = "held"
    FREE = "free"
    MISSING = "missing"


@dataclass(frozen=True)
class Evidence:
    """The facts that decide which system a recorded kernel belongs to.

    Parameters
    ----------
    state : State, optional
        The recorded state; None if the record cannot be read.
    recorded : Origin, optional
        The system that wrote the record.
    locked : Origin, optional
        The system of the shim, from the locked file; the locked file contains no machine-id.
    lock : Lock
        Whether the lock is held.
    proved : bool
        Whether the kernel's process was found alive here, by its pid and start time.
    local : bool
        Whether the state folder is on a file system that only this machine mounts.
    """

    state: State | None
    recorded: Origin | None
    locked: Origin | None
    lock: Lock
    proved: bool
    local: bool


def is_elsewhere(evidence: Evidence, here: Origin) -> bool:
    """Return whether a kernel belongs to another system; this daemon must not touch such a kernel.

    Parameters
    ----------
    evidence : Evidence
        The facts about the kernel.
    here : Origin
        The system of this daemon.
    """
    if evidence.recorded is not None and evidence.recorded.machine != here.machine:
        return True
    if evidence.proved:
        return False
    if evidence.lock is Lock.HELD:
        return True
    writers = [origin for origin in (evidence.locked, evidence.recorded) if origin is not None]
    if all(is_here(origin, here) for origin in writers):
        return False
    if evidence.lock is Lock.FREE:
        return not evidence.local and any(origin.host != here.host for origin in writers)
    return _may_live(evidence)


def is_here(writer: Origin, here: Origin) -> bool:
    """Return whether a daemon or shim ran on this system, in the present boot or an earlier boot.

    ``writer`` is the system on which the daemon or shim ran, as recorded in a file.
    """
    if writer.host != here.host or writer.machine not in {here.machine, ""}:
        return False
    # A pid namespace identifies a system only within one boot. Records of earlier versions contain
    # no pid namespace.
    has_namespaces = bool(writer.pid_namespace and here.pid_namespace)
    is_comparable = has_namespaces and writer.boot_id == here.boot_id
    return not is_comparable or writer.pid_namespace == here.pid_namespace


def _may_live(evidence: Evidence) -> bool:
    """Return whether a kernel of another system may be alive although it has no lock file."""
    if evidence.state in {State.LAUNCHING, State.BACKOFF} and evidence.local:
        # Every version that records the pid namespace also makes a lock file for each kernel that
        # it launches. Without a lock file, the kernel was not launched.
        return not (evidence.recorded is not None and evidence.recorded.pid_namespace)
    return evidence.state is None or evidence.state in {*LIVE, State.BACKOFF}


def choose_holder(evidence: Evidence, here: Origin) -> Origin | None:
    """Choose the system whose name is shown to users for a kernel that is elsewhere.

    While the lock is held, the locked file is more reliable than the record. If the lock is not
    held, or if the record names another machine, the record is preferred. A source that names
    another system is preferred to one that names this system, where the kernel was not found.
    """
    first, second = evidence.locked, evidence.recorded
    if evidence.lock is not Lock.HELD or (second and second.machine != here.machine):
        first, second = second, first
    writers = [origin for origin in (first, second) if origin is not None]
    return next(iter([origin for origin in writers if not is_here(origin, here)] + writers), None)


def file_system_of(mountinfo: Iterable[str], path: str) -> str:
    """Return the type of the file system that contains a path.

    Parameters
    ----------
    mountinfo : iterable of str
        Lines of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)).
    path : str
        An absolute path without symbolic links.

    Returns
    -------
    str
        The type, such as ``ext4``; empty if the table contains no mount point for the path.
    """
    longest, file_system = -1, ""
    for line in mountinfo:
        mount, _, source = line.partition(" - ")
        fields, source_fields = mount.split(), source.split()
        if len(fields) < 5 or not source_fields:  # noqa: PLR2004  # the fifth is the mount point
            continue
        point = _unescape(fields[4])
        is_below = path == point or path.startswith(point.rstrip("/") + "/")
        # Of two mounts at one mount point, the later mount hides the earlier mount.
        if is_below and len(point) >= longest:
            longest, file_system = len(point), source_fields[0]
    return file_system


def _unescape(field: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
