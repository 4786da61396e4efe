"""Builds the fixed list of properties for the systemd units of kernels.

Rules. A unit runs as the uid of the requesting peer and in the slice of this uid; the request
cannot change the uid. The limits in a machine profile apply to every kernel of this profile. A
request can lower these limits, and cannot raise them. Every user can read the properties of a unit,
so the properties contain no secret.
"""

from collections.abc import Mapping
from typing import Any

from dbus_fast import Variant

from kconnd.core.launch.kernel_files import without_warm_suffix
from kconnd.core.limits import LIMIT_KEYS, SCOPE_OOM_VERSION, cgroup_properties
from kconnd.core.names import parse_name
from kconnd.core.profile.model import Limits
from kconnd.errors import UsageError

PAM_SERVICE = "kconnd"  # in /etc/pam.d
MAX_PATH_CHARS = 1024
MAX_PID = 1 << 22  # proc_sys_kernel(5), pid_max
MAX_GENERATION = 10**9 - 1  # greater than any real generation
MAX_LIMIT = 1e15  # greater than any real amount of memory, processors or tasks
Rows = list[list[object]]  # each row is a name and a value
# From this version of systemd on, ExitType=cgroup keeps a unit active after its main process has
# exited, so that the kernel survives the exit of the shim.
EXIT_TYPE_VERSION = 250
# At this time after a stop, systemd sends SIGKILL to the remaining processes of a unit, including
# the shim.
STOP_TIMEOUT_S = 45


def profile_of(name: str) -> str:
    """Return the name of the profile to which the name of a kernel or warm kernel belongs."""
    return parse_name(without_warm_suffix(name))[0]


def parse_request(body: Mapping[str, Any]) -> tuple[str, int, str, str, dict[str, float]]:
    """Parse a request for a unit: name, generation, path of the shim, path of the plan, limits.

    Raises
    ------
    UsageError
        If a field is missing or invalid.
    """
    name, generation = _identity(body)
    return name, generation, _path(body, "program"), _path(body, "plan"), _limits(body)


def parse_scope(body: Mapping[str, Any]) -> tuple[str, int, int, dict[str, float]]:
    """Parse a request for a scope: name, generation, the shim's pid, limits.

    Raises
    ------
    UsageError
        If a field is missing or invalid.
    """
    name, generation = _identity(body)
    pid = body.get("pid")
    if not isinstance(pid, int) or isinstance(pid, bool) or not 1 < pid < MAX_PID:
        raise UsageError(f"pid: {pid!r} is not the pid of a process")
    return name, generation, pid, _limits(body)


def _identity(body: Mapping[str, Any]) -> tuple[str, int]:
    name, generation = body.get("name"), body.get("generation")
    if not isinstance(name, str):
        raise UsageError("name: not text")
    profile_of(name)  # raises if the name is invalid
    if not isinstance(generation, int) or isinstance(generation, bool):
        raise UsageError(f"generation: {generation!r} is not a number")
    if not 1 <= generation <= MAX_GENERATION:
        raise UsageError(f"generation: {generation!r} is not between 1 and {MAX_GENERATION}")
    return name, generation


def _path(body: Mapping[str, Any], key: str) -> str:
    path = body.get(key)
    is_absolute = isinstance(path, str) and path.startswith("/") and path.isprintable()
    if not is_absolute or len(str(path)) > MAX_PATH_CHARS:
        raise UsageError(f"{key}: not an absolute path")
    return str(path)


def _limits(body: Mapping[str, Any]) -> dict[str, float]:
    limits = body.get("limits", {})
    if not isinstance(limits, dict) or not set(limits) <= set(LIMIT_KEYS):
        raise UsageError(f"limits: not a mapping with the keys {', '.join(LIMIT_KEYS)}")
    for key, limit in limits.items():
        is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
        if not is_number or not 0 < limit < MAX_LIMIT:
            raise UsageError(
                f"limits.{key}: {limit!r} is not a positive number below {MAX_LIMIT:g}"
            )
    return {key: float(limit) for key, limit in limits.items()}


def stricter(requested: Mapping[str, float], machine: Limits | None) -> dict[str, float]:
    """Return, for each key, the requested limit or the machine's limit, whichever is lower."""
    machine_limits = machine.model_dump(exclude_none=True) if machine is not None else {}
    merged = {**requested, **machine_limits}
    return {key: min(requested.get(key, limit), limit) for key, limit in merged.items()}


def properties(
    uid: int, argv: list[str], limits: Mapping[str, float], systemd: int, *, pam: bool = False
) -> Rows:
    """Build the properties of a kernel's unit, for ``StartTransientUnit``.

    The shim is the main process of the unit. If the shim is killed, the kernel keeps running.

    Parameters
    ----------
    uid : int
        The owner.
    argv : list of str
        The command of the shim. Its last two words are the kernel's name and the path of the plan.
    limits : mapping
        The limits of the cgroup and of open files.
    systemd : int
        The version of the running systemd.
    pam : bool
        Whether kconnd's PAM service is installed. Through PAM, an administrator sets limits for
        each user. With a systemd older than `EXIT_TYPE_VERSION`, this parameter is ignored, because
        a unit with PAM would always stop when its main process exits.
    """
    has_exit_type = systemd >= EXIT_TYPE_VERSION
    pam = pam and has_exit_type
    command = _lower_open_files(argv, limits) if pam else argv
    rows = {
        "Description": Variant("s", f"Jupyter kernel {argv[-2]} of uid {uid}"),
        "User": Variant("s", str(uid)),
        "Slice": Variant("s", f"kconnd-{uid}.slice"),
        # Type=exec does not work with PAM in systemd 252. systemd detects the exec when a
        # descriptor closes, but PAM's helper process keeps this descriptor open. The unit would be
        # "starting" until its start times out.
        "Type": Variant("s", "simple" if pam else "exec"),
        "ExecStart": Variant("a(sasb)", [[command[0], command, False]]),
        "WorkingDirectory": Variant("s", "/"),
        "KillMode": Variant("s", "control-group" if has_exit_type else "process"),
        # If the OOM killer kills the kernel, the shim must survive to record this.
        "OOMPolicy": Variant("s", "continue"),
        "CollectMode": Variant("s", "inactive-or-failed"),
        **_stop_order(uid),
        "StandardInput": Variant("s", "null"),
        "StandardOutput": Variant("s", "null"),
        "StandardError": Variant("s", "journal"),
        "UMask": Variant("u", 0o077),
        **_cgroup_limits(limits),
    }
    if has_exit_type:
        rows["ExitType"] = Variant("s", "cgroup")
    if "open_files" in limits:
        rows["LimitNOFILE"] = Variant("t", int(limits["open_files"]))
    if pam:
        rows["PAMName"] = Variant("s", PAM_SERVICE)
        if "tasks" in limits:
            # Two more processes need tasks: the shim, and systemd's helper process that closes the
            # PAM session.
            rows["TasksMax"] = Variant("t", int(limits["tasks"]) + 2)
    return _rows(rows)


def _lower_open_files(argv: list[str], limits: Mapping[str, float]) -> list[str]:
    """Wrap a command in a shell that lowers the limit of open files.

    A limit from PAM overrides LimitNOFILE=. The shell therefore sets the unit's limit again after
    PAM has set its own. If the limit from PAM is lower, it stays, because no user except root can
    raise a limit.
    """
    if "open_files" not in limits:
        return argv
    script = 'ulimit -n "$0" 2>/dev/null; exec "$@"'
    return ["/bin/sh", "-c", script, str(int(limits["open_files"])), *argv]


def scope_properties(
    uid: int, name: str, pid: int, limits: Mapping[str, float], systemd: int
) -> Rows:
    """Build the properties of the scope for a forked shim and the processes that it forks.

    Parameters
    ----------
    systemd : int
        The version of the running systemd.
    """
    rows = {
        "Description": Variant("s", f"Jupyter kernel {name} of uid {uid}, forked"),
        "PIDs": Variant("au", [pid]),
        "Slice": Variant("s", f"kconnd-{uid}.slice"),
        "CollectMode": Variant("s", "inactive-or-failed"),
        **_stop_order(uid),
        **_cgroup_limits(limits),
    }
    if systemd >= SCOPE_OOM_VERSION:
        # If the OOM killer kills the kernel, the shim must survive to record this.
        rows["OOMPolicy"] = Variant("s", "continue")
    return _rows(rows)


def _stop_order(uid: int) -> dict[str, Variant]:
    """Return the properties that determine when systemd stops a kernel's unit.

    ``systemctl isolate`` to another target does not stop the unit, just as it does not stop
    user@.service. At a shutdown of the machine, systemd stops the owner's daemon before the
    kernels. In the reverse order, the daemon would record that an administrator stopped each
    kernel.
    """
    return {
        "IgnoreOnIsolate": Variant("b", True),  # noqa: FBT003  # its own signature
        "Before": Variant("as", [f"kconnd@{uid}.service"]),
        # If a kernel ignores SIGTERM, the shim kills the kernel after 20 s and records the exit.
        # Therefore, the timeout is set here: the machine's default timeout can be shorter than 20
        # s.
        "TimeoutStopUSec": Variant("t", STOP_TIMEOUT_S * 1_000_000),
    }


def _rows(properties_by_name: Mapping[str, Variant]) -> Rows:
    return [[key, value] for key, value in properties_by_name.items()]


def _cgroup_limits(limits: Mapping[str, float]) -> dict[str, Variant]:
    """Return the properties for the limits that the unit's cgroup enforces."""
    return {name: Variant(*value) for name, value in cgroup_properties(limits).items()}
