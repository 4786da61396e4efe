"""Whether a kernel on record is this daemon's or another machine's or container's: a pure decision.

Several machines or containers can share a state folder, some with the same machine-id. The shim of
a live kernel holds a lock in that folder from before the kernel exists until every process of it
is gone, and the locked file says where it runs. Containers of one machine have the same boot id, so
the pid namespace counts as well.

Rules. What a daemon cannot prove to be its own is elsewhere, and it touches nothing of that. A lock
that is held and whose process is not found here is elsewhere, whatever any record says. A lock
that is free proves the end only where all who could hold it are seen: on a file system of this
machine. On one that comes over a network, a lock can be lost while its kernel lives; there the
host name in the record and in the locked file decides. Doubt means elsewhere.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from kconnd.core.kernel.lifecycle import LIVE, State
from kconnd.core.kernel.record import Origin

# File systems that no other running system can have mounted, so that locks are seen by all.
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
    """What can be seen of a kernel on record.

    Parameters
    ----------
    state : State, optional
        Its state on record; None where the record cannot be read.
    recorded : Origin, optional
        Who wrote the record.
    locked : Origin, optional
        Where its shim runs or ran, as the locked file says; the machine-id is not in there.
    lock : Lock
        Whether the lock is held.
    proved : bool
        Whether its process was found here, alive, by pid and start time.
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
    """Decide whether a kernel is another's, of which nothing is to be touched.

    Parameters
    ----------
    evidence : Evidence
        What can be seen of it.
    here : Origin
        This daemon's.
    """
    if evidence.recorded is not None and evidence.recorded.machine != here.machine:
        return True
    if evidence.proved:
        return False
    if evidence.lock is Lock.HELD:
        return True
    writers = [one for one in (evidence.locked, evidence.recorded) if one is not None]
    if all(is_here(one, here) for one in writers):
        return False
    if evidence.lock is Lock.FREE:
        return not evidence.local and any(one.host != here.host for one in writers)
    return _may_live(evidence)


def is_here(writer: Origin, here: Origin) -> bool:
    """Tell whether a daemon or shim ran where we do, be it in an earlier run of the machine."""
    if writer.host != here.host or writer.machine not in {here.machine, ""}:
        return False
    known = bool(writer.pid_namespace and here.pid_namespace)
    same_boot = writer.boot_id == here.boot_id
    return not (known and same_boot) or writer.pid_namespace == here.pid_namespace


def _may_live(evidence: Evidence) -> bool:
    """Tell whether a kernel that another has on record may live although it has no lock file."""
    if evidence.state in {State.LAUNCHING, State.BACKOFF} and evidence.local:
        known = evidence.recorded is not None and evidence.recorded.pid_namespace
        return not known  # since namespaces are on record, no kernel begins without a lock
    return evidence.state is None or evidence.state in {*LIVE, State.BACKOFF}


def choose_holder(evidence: Evidence, here: Origin) -> Origin | None:
    """Choose who is to be told as the one whose kernel it is.

    What holds the lock knows best, unless it says that it is here, where it was not found.
    """
    first, second = evidence.locked, evidence.recorded
    if evidence.lock is not Lock.HELD or (second and second.machine != here.machine):
        first, second = second, first
    writers = [one for one in (first, second) if one is not None]
    return next(iter([one for one in writers if not is_here(one, here)] + writers), None)


def file_system_of(mountinfo: Iterable[str], path: str) -> str:
    """Find the kind of file system that a path is on.

    Parameters
    ----------
    mountinfo : iterable of str
        Lines of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)).
    path : str
        Absolute, without links.

    Returns
    -------
    str
        Such as ``ext4``; empty where it is not told.
    """
    longest, kind = -1, ""
    for line in mountinfo:
        mount, _, about = line.partition(" - ")
        fields, kinds = mount.split(), about.split()
        if len(fields) < 5 or not kinds:  # noqa: PLR2004  # the fifth is where it is mounted
            continue
        point = _unescape(fields[4])
        below = path == point or path.startswith(point.rstrip("/") + "/")
        if below and len(point) >= longest:  # of two in one place, the later one covers
            longest, kind = len(point), kinds[0]
    return kind


def _unescape(field: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
