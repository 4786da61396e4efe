"""Decides whether a recorded kernel belongs to this system or to another machine or container.

Several machines or containers can share a state folder, some with the same machine-id. The shim of
a live kernel holds a lock in that folder from before the kernel exists until its last process has
exited, and the locked file names the system. Containers of one machine have the same boot id, so
the pid namespace counts as well.

Rules. A kernel that a daemon cannot prove to be its own is elsewhere, and the daemon touches none
of its files. A held lock whose process is not found here is elsewhere, whatever any record says. A
free lock proves that the kernel has exited only on a file system of this machine, where every
holder would be seen. On a network file system a lock can be lost while its kernel lives, so there
the host names in the record and in the locked file decide. Doubt means elsewhere.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from kconnd.core.kernel.lifecycle import LIVE, State
from kconnd.core.kernel.record import Origin

# File systems that only one running system can mount, so that every lock on them is visible here.
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
    """The facts that decide to which system a recorded kernel belongs.

    Parameters
    ----------
    state : State, optional
        The recorded state; None if the record cannot be read.
    recorded : Origin, optional
        The system that wrote the record.
    locked : Origin, optional
        The system of its shim, from the locked file, which has no machine-id.
    lock : Lock
        Whether the lock is held.
    proved : bool
        Whether its process was found alive here, by pid and start time.
    local : bool
        Whether the state folder is on a file system of this machine alone.
    """

    state: State | None
    recorded: Origin | None
    locked: Origin | None
    lock: Lock
    proved: bool
    local: bool


def is_elsewhere(evidence: Evidence, here: Origin) -> bool:
    """Decide whether a kernel belongs to another system, so that this daemon must not touch it.

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
    """Return whether a daemon or shim ran on this system, in this or an earlier boot."""
    if writer.host != here.host or writer.machine not in {here.machine, ""}:
        return False
    # Pid namespaces compare only within one boot, and records of earlier versions have none.
    has_namespaces = bool(writer.pid_namespace and here.pid_namespace)
    is_comparable = has_namespaces and writer.boot_id == here.boot_id
    return not is_comparable or writer.pid_namespace == here.pid_namespace


def _may_live(evidence: Evidence) -> bool:
    """Return whether a kernel of another system may be alive although it has no lock file."""
    if evidence.state in {State.LAUNCHING, State.BACKOFF} and evidence.local:
        # Versions that record the pid namespace launch no kernel without a lock.
        return not (evidence.recorded is not None and evidence.recorded.pid_namespace)
    return evidence.state is None or evidence.state in {*LIVE, State.BACKOFF}


def choose_holder(evidence: Evidence, here: Origin) -> Origin | None:
    """Choose the system to report as the kernel's owner.

    The locked file is the most reliable source, unless it names this system, where the process
    was not found.
    """
    first, second = evidence.locked, evidence.recorded
    if evidence.lock is not Lock.HELD or (second and second.machine != here.machine):
        first, second = second, first
    writers = [origin for origin in (first, second) if origin is not None]
    return next(iter([origin for origin in writers if not is_here(origin, here)] + writers), None)


def file_system_of(mountinfo: Iterable[str], path: str) -> str:
    """Return the type of the file system that holds a path.

    Parameters
    ----------
    mountinfo : iterable of str
        Lines of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)).
    path : str
        Absolute, without symbolic links.

    Returns
    -------
    str
        The type, such as ``ext4``; empty if the table does not have it.
    """
    longest, file_system = -1, ""
    for line in mountinfo:
        mount, _, source = line.partition(" - ")
        fields, source_fields = mount.split(), source.split()
        if len(fields) < 5 or not source_fields:  # noqa: PLR2004  # the fifth is the mount point
            continue
        point = _unescape(fields[4])
        is_below = path == point or path.startswith(point.rstrip("/") + "/")
        if is_below and len(point) >= longest:  # a later mount covers an earlier one
            longest, file_system = len(point), source_fields[0]
    return file_system


def _unescape(field: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
