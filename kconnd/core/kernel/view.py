"""Builds the reply about a kernel from its record and its live status.

The field names of the reply are a public interface: later versions may add fields, but do not
rename or remove fields.
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from kconnd.core.inherited_limits import explain_signal
from kconnd.core.kernel.lifecycle import State
from kconnd.core.kernel.record import KernelRecord
from kconnd.core.kernel.stop_delay import describe_wait
from kconnd.core.launch.plan import DEFAULT_UMASK
from kconnd.core.launch.session import describe_session
from kconnd.core.limits import describe_unenforced


@dataclass(frozen=True)
class LiveStatus:
    """The present status of a kernel as the daemon observes it.

    Parameters
    ----------
    owner : str
        The owner's login name.
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
        Resident bytes of the whole process tree.
    clients : int, optional
        Number of connected clients.
    unrecorded : str
        Why the kernel's record could not be saved; empty if it was saved.
    kept_alive : str, optional
        Why ``idle.stop_after`` does not stop the kernel although it is idle.
    unreachable : str
        Why no new client can attach to a running kernel; empty if new clients can attach.
    unanswered : str
        That the kernel reports ``idle`` and does not answer on its shells; empty if it may answer.
    in_subshells : str
        That the kernel works in subshells only; empty if it does not.
    jupyter_name : str
        Jupyter's name of the kernel spec from which the kernel's name is derived; empty for any
        other kernel.
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
    unanswered: str = ""
    in_subshells: str = ""
    jupyter_name: str = ""


@lru_cache(1024)  # successive replies contain few different times
def iso_time(at: float | None) -> str | None:
    """Format seconds since the epoch as ISO 8601 in UTC with milliseconds."""
    if at is None:
        return None
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def describe_oom(*, own: bool, above: str, limit: str = "") -> str:
    """Describe which memory limit caused a kernel to be killed.

    Parameters
    ----------
    own : bool
        Whether the kernel reached the limit of its own control group.
    limit : str
        The kernel's own limit, such as ``1G``; ``""`` if unknown.
    above : str
        The ancestor control group that reached its memory limit, such as a user's slice; ``""`` if
        no ancestor reached its limit.
    """
    if not above:
        if own:
            of_profile = f" of {limit} (limits.memory in its profile)" if limit else ""
            return f"killed because it exceeded its memory limit{of_profile}"
        return "killed because the machine had no memory left; it had not reached its own limit"
    shared = f"the memory limit of {above}, which counts all processes in it together"
    if above.startswith("kconnd-"):
        shared = f"the memory limit of {above}, which counts all kernels of its user together"
    if own:
        return f"killed because of its own memory limit, or of {shared}"
    return f"killed because of {shared}"


def describe_exit(code: int | None, number: int | None) -> str:
    """Describe an exit status."""
    if number is not None:
        try:
            name = signal.Signals(number).name
        except ValueError:
            return f"killed by signal {number}"
        cause = explain_signal(name)
        return f"killed by {name} ({cause})" if cause else f"killed by {name}"
    if code is not None:
        return f"exited with code {code}"
    return "exited with an unknown status"


def describe_unit_stop(unit: str, how: str) -> str:
    """Describe a kernel's exit after an administrator stopped its unit."""
    return f"stopped by the administrator with its unit {unit} (systemctl stop); {how}"


def describe(record: KernelRecord, sight: LiveStatus) -> dict[str, Any]:
    """Build the reply about a kernel, without its key, for a user who may see the kernel."""
    kernel = record.lifecycle
    alive = kernel.state in {State.STARTING, State.RUNNING, State.STOPPING}
    facts = record.facts
    return {
        "name": record.name,
        "profile": record.name.partition("@")[0],
        "jupyter_name": sight.jupyter_name or None,
        "owner": sight.owner,
        "notebook": _notebook(record),
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
        "umask": _umask(record) if alive else None,
        "umask_source": record.umask.source if alive and record.umask else None,
        "session": _session(record) if alive else None,
        "launcher": record.handle["launcher"] if alive and record.handle else None,
        "limits": (record.handle.get("limits") if alive and record.handle else None) or None,
        "limits_unenforced": _unenforced_limits(record) if alive else None,
        "launcher_note": (record.handle.get("note") if alive and record.handle else None) or None,
        "program": record.program.path if alive and record.program else None,
        "program_origin": record.program.origin if alive and record.program else None,
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
        "unanswered": sight.unanswered or None,
        "in_subshells": sight.in_subshells or None,
        "warnings": list(facts.warnings) if alive else [],
    }


def without_output(shown: Mapping[str, Any]) -> dict[str, Any]:
    """Return a reply without output, for a user who may see the kernel but not connect to it."""
    last = shown["last_exit"]
    hidden = {"log_file": "", "program": None, "program_origin": None, "session": None}
    hidden |= {"notebook": None}
    return {**shown, "last_exit": last and {**last, "output_tail": ""}, **hidden}


def describe_elsewhere(record: KernelRecord) -> dict[str, Any]:
    """Build the reply about a kernel that is elsewhere, from the kernel's last record."""
    origin, decisions = record.origin, record.decisions
    return {
        "name": record.name,
        "machine": origin.host if origin else None,
        "state": record.lifecycle.state.value,
        "as_of": iso_time(decisions[-1].at) if decisions else None,
    }


def _notebook(record: KernelRecord) -> dict[str, str] | None:
    """Describe the notebook for which a kernel was started last; None without a notebook."""
    notebook = record.notebook
    if notebook is None or not notebook.name:
        return None
    return {"path": notebook.name, "folder": notebook.folder, "file": notebook.file}


def _umask(record: KernelRecord) -> str:
    """Return the umask, in octal digits, with which the present process was launched."""
    if record.umask is not None:
        return str(record.umask)
    return str((record.profile or {}).get("umask") or f"{DEFAULT_UMASK:03o}")


def _unenforced_limits(record: KernelRecord) -> str | None:
    unenforced = record.handle.get("unenforced") if record.handle else None
    return describe_unenforced(unenforced) if unenforced else None


def _session(record: KernelRecord) -> Mapping[str, Any] | None:
    """Describe the session that the process inherits from; None if there is nothing to tell."""
    pass_env = tuple((record.profile or {}).get("pass_env", ()))
    if record.session is None and not pass_env:
        return None
    taken_at = record.session and record.session.time
    return {**describe_session(record.session, pass_env), "taken_at": iso_time(taken_at)}


def _last_exit(record: KernelRecord) -> Mapping[str, Any] | None:
    last = record.last_exit
    if last is None:
        return None
    return {**vars(last), "at": iso_time(last.at)}
