"""What is shown of a kernel: a record and what the daemon sees now, as the fields of a reply.

These field names are an interface: they are only ever added to.
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from kconnd.core.kernel.lifecycle import State
from kconnd.core.kernel.record import KernelRecord
from kconnd.core.kernel.stop_delay import describe_wait


@dataclass(frozen=True)
class LiveStatus:
    """What the daemon sees of a kernel now.

    Parameters
    ----------
    owner : str
        The user's name.
    profile_status : str
        ``current``, ``changed: restart to apply`` or ``orphaned``.
    connection_file, log_file : str
        Paths.
    execution_state : str, optional
        ``busy``, ``idle`` or ``unknown``.
    last_activity, heartbeat_at, next_attempt_at : float, optional
        Seconds since the epoch.
    heartbeat : str
        ``alive``, ``missed``, ``unresponsive`` or ``unknown``.
    memory : int, optional
        Bytes of the whole process tree.
    clients : int, optional
        How many are connected.
    unrecorded : str
        Why what is shown could not be saved; empty where it is.
    kept_alive : str, optional
        Why a kernel is not stopped that would be by ``idle.stop_after``.
    unreachable : str
        Why no new client can attach to a kernel that runs; empty where one can.
    """

    owner: str
    profile_status: str
    connection_file: str
    log_file: str
    execution_state: str | None = None
    last_activity: float | None = None
    heartbeat: str = "unknown"
    heartbeat_at: float | None = None
    next_attempt_at: float | None = None
    memory: int | None = None
    clients: int | None = None
    unrecorded: str = ""
    kept_alive: str | None = None
    unreachable: str = ""


@lru_cache(1024)  # the same few times are shown again and again
def iso_time(at: float | None) -> str | None:
    """Give a time as ISO 8601 in UTC with milliseconds."""
    if at is None:
        return None
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def describe_oom(*, own: bool, above: str) -> str:
    """Say in words whose limit it was that a kernel was killed for.

    Parameters
    ----------
    own : bool
        Whether the kernel's own was reached.
    above : str
        The control group above whose limit was reached, such as a user's slice; else empty.
    """
    if not above:
        if own:
            return "killed for going over its memory limit"
        return "killed since the machine had no memory left; it has not reached a limit of its own"
    shared = f"the memory limit of {above}, which counts all that is in it together"
    if above.startswith("kconnd-"):
        shared = f"the memory limit of {above}, which counts all kernels of its user together"
    if own:
        return f"killed for memory: for its own limit, or for {shared}"
    return f"killed for {shared}"


def describe_exit(code: int | None, number: int | None) -> str:
    """Say in words how a process ended."""
    if number is not None:
        try:
            return f"killed by {signal.Signals(number).name}"
        except ValueError:
            return f"killed by signal {number}"
    if code is not None:
        return f"exited with code {code}"
    return "ended, and nobody saw how"


def describe_unit_stop(unit: str, how: str) -> str:
    """Say that an administrator ended a kernel by the service manager, and how it ended."""
    return f"stopped by the administrator, with its unit {unit} (systemctl stop); {how}"


def describe(record: KernelRecord, sight: LiveStatus) -> dict[str, Any]:
    """Give all that may be shown to whoever may see the kernel; no key is in it."""
    kernel = record.lifecycle
    alive = kernel.state in {State.STARTING, State.RUNNING, State.STOPPING}
    facts = record.facts
    return {
        "name": record.name,
        "profile": record.name.partition("@")[0],
        "owner": sight.owner,
        "state": kernel.state.value,
        "wanted": kernel.desired.value,
        "reason": kernel.reason,
        "waits_for": describe_wait(kernel),
        "pid": record.handle["kernel"][0] if alive and record.handle else None,
        "generation": kernel.generation,
        "restarts": kernel.restarts,
        "failures": kernel.failures,
        "started_at": iso_time(facts.started_at) if alive else None,
        "ready_after": facts.ready_after if alive else None,
        "launcher": record.handle["launcher"] if alive and record.handle else None,
        "launcher_note": (record.handle.get("note") if alive and record.handle else None) or None,
        "kernel_name": facts.kernel_name or None,
        "language": facts.language or None,
        "language_version": facts.language_version or None,
        "implementation": facts.implementation or None,
        "implementation_version": facts.implementation_version or None,
        "protocol_version": facts.protocol_version or None,
        "connection_file": sight.connection_file if alive else None,
        "connection": record.connection.describe() if alive and record.connection else None,
        "clients": sight.clients,
        "heartbeat": {"state": sight.heartbeat, "last_at": iso_time(sight.heartbeat_at)},
        "execution_state": sight.execution_state,
        "last_activity": iso_time(sight.last_activity),
        "kept_alive": sight.kept_alive,
        "memory": sight.memory,
        "last_exit": _last_exit(record),
        "log_file": sight.log_file,
        "profile_status": sight.profile_status,
        "next_attempt_at": iso_time(sight.next_attempt_at),
        "unrecorded": sight.unrecorded or None,
        "unreachable": sight.unreachable or None,
        "warnings": list(facts.warnings) if alive else [],
    }


def without_output(shown: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what a kernel printed, for who may see it and not connect to it."""
    last = shown["last_exit"]
    return {**shown, "last_exit": last and {**last, "output_tail": ""}, "log_file": ""}


def describe_elsewhere(record: KernelRecord) -> dict[str, Any]:
    """Give what is known of a kernel of another machine: what was saved there last."""
    origin, decisions = record.origin, record.decisions
    return {
        "name": record.name,
        "machine": origin.host if origin else None,
        "state": record.lifecycle.state.value,
        "as_of": iso_time(decisions[-1].at) if decisions else None,
    }


def _last_exit(record: KernelRecord) -> Mapping[str, Any] | None:
    last = record.last_exit
    if last is None:
        return None
    return {**vars(last), "at": iso_time(last.at)}
