"""The units that the front door makes for kernels: a fixed list of properties, and no more.

Rules. A unit runs as the uid that asked, whatever it asked for, and in that owner's slice.
Limits in a profile of the whole machine hold for kernels of that name; who asks can only
lower them. What is in a unit can be read by everybody, so nothing secret is.
"""

import re
from collections.abc import Mapping
from typing import Any

from dbus_fast import Variant

from kconnd.core.names import parse_name
from kconnd.core.paths import KERNEL_UNIT
from kconnd.core.profile.model import Limits
from kconnd.errors import UsageError

PAM = "kconnd"  # the service, in /etc/pam.d
LONGEST = 1024  # characters of a path
HIGHEST_PID = 1 << 22  # proc_sys_kernel(5), pid_max
MANY = 10**9  # more launches than any kernel has
_UNNAMED = re.compile("~[0-9a-f]{8}$")  # at the end of what is kept warm and has no name yet
Rows = list[list[object]]  # of a name and a value
# The systemd from which scopes have OOMPolicy=, and stop where one process goes over the limit;
# an earlier one leaves the others alone, and refuses the property.
SCOPES_KNOW_OOM = 253
# The systemd from which a unit can go on without its main process, whatever ends it with that.
UNITS_KNOW_EXIT_TYPE = 250
STOP_TIMEOUT_S = 45  # until systemd kills what a stop of a unit has left, the shim too
KINDS = ("memory", "cpu", "tasks", "open_files")


def unit_name(uid: int, name: str, generation: int, kind: str = "service") -> str:
    """Name a kernel's unit; what a unit's name cannot hold is escaped (systemd.unit(5))."""
    safe = re.sub(r"[^A-Za-z0-9._-]", lambda found: f"\\x{ord(found[0]):02x}", name)
    return f"{KERNEL_UNIT}{uid}-{safe}-{generation}.{kind}"


def profile_of(name: str) -> str:
    """Give the profile that a kernel is of, also of one that is kept warm."""
    return parse_name(_UNNAMED.sub("", name))[0]


def parse_request(body: Mapping[str, Any]) -> tuple[str, int, str, str, dict[str, float]]:
    """Check what an owner's daemon asks for: name, generation, program, plan and limits.

    Raises
    ------
    UsageError
        If anything of it is not what it should be.
    """
    name, generation = _identity(body)
    return name, generation, _path(body, "program"), _path(body, "plan"), _limits(body)


def parse_scope(body: Mapping[str, Any]) -> tuple[str, int, int, dict[str, float]]:
    """Check a request for a scope: name, generation, the shim's pid, and limits.

    Raises
    ------
    UsageError
        If anything of it is not what it should be.
    """
    name, generation = _identity(body)
    pid = body.get("pid")
    if not isinstance(pid, int) or isinstance(pid, bool) or not 1 < pid < HIGHEST_PID:
        raise UsageError(f"pid: {pid!r} is not the number of a process")
    return name, generation, pid, _limits(body)


def _identity(body: Mapping[str, Any]) -> tuple[str, int]:
    name, generation = body.get("name"), body.get("generation")
    if not isinstance(name, str):
        raise UsageError("name: not text")
    profile_of(name)
    if not isinstance(generation, int) or isinstance(generation, bool) or not 0 < generation < MANY:
        raise UsageError(f"generation: {generation!r} is not a number from 1 on")
    return name, generation


def _path(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    sound = isinstance(value, str) and value.startswith("/") and value.isprintable()
    if not sound or len(str(value)) > LONGEST:
        raise UsageError(f"{key}: not an absolute path")
    return str(value)


def _limits(body: Mapping[str, Any]) -> dict[str, float]:
    given = body.get("limits", {})
    if not isinstance(given, dict) or not set(given) <= set(KINDS):
        raise UsageError(f"limits: not a mapping with {', '.join(KINDS)}")
    for key, value in given.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 < value < 1e15:  # noqa: PLR2004  # more than any machine has
            raise UsageError(f"limits.{key}: {value!r} is not a sensible number")
    return {key: float(value) for key, value in given.items()}


def stricter(asked: Mapping[str, float], machine: Limits | None) -> dict[str, float]:
    """Give the lower of two sets of limits, key by key."""
    set_here = machine.model_dump(exclude_none=True) if machine is not None else {}
    both = {**asked, **set_here}
    return {key: min(asked.get(key, value), value) for key, value in both.items()}


def properties(
    uid: int, argv: list[str], limits: Mapping[str, float], systemd: int, *, pam: bool = False
) -> Rows:
    """Give the properties of a kernel's unit, for ``StartTransientUnit``.

    The kernel lives on where its shim, which is the main process, has been killed.

    Parameters
    ----------
    uid : int
        Whose it is.
    argv : list of str
        The shim with its name and plan.
    limits : mapping
        Of its cgroup, and of its open files.
    systemd : int
        The version that runs.
    pam : bool
        Whether there is a PAM service of ours, for what an administrator sets by user. An old
        systemd lets a unit with PAM do no other than end with its main process, so has none.
    """
    lasting = systemd >= UNITS_KNOW_EXIT_TYPE
    pam = pam and lasting
    start = _capped(argv, limits) if pam else argv
    found = {
        "Description": Variant("s", f"Jupyter kernel {argv[-2]} of uid {uid}"),
        "User": Variant("s", str(uid)),
        "Slice": Variant("s", f"kconnd-{uid}.slice"),
        # The process for PAM keeps open what tells systemd 252 of an exec: the unit would be
        # starting until its time for that is over, and be ended then.
        "Type": Variant("s", "simple" if pam else "exec"),
        "ExecStart": Variant("a(sasb)", [[start[0], start, False]]),
        "WorkingDirectory": Variant("s", "/"),
        "KillMode": Variant("s", "control-group" if lasting else "process"),
        # The shim tells what the system killed for its memory, so it has to outlive that.
        "OOMPolicy": Variant("s", "continue"),
        "CollectMode": Variant("s", "inactive-or-failed"),
        **_lasting(uid),
        "StandardInput": Variant("s", "null"),
        "StandardOutput": Variant("s", "null"),
        "StandardError": Variant("s", "journal"),
        "UMask": Variant("u", 0o077),
        **_confining(limits),
    }
    if lasting:
        found["ExitType"] = Variant("s", "cgroup")
    if "open_files" in limits:
        found["LimitNOFILE"] = Variant("t", int(limits["open_files"]))
    if pam:
        found["PAMName"] = Variant("s", PAM)
        if "tasks" in limits:  # systemd keeps a process beside the shim that ends the session
            found["TasksMax"] = Variant("t", int(limits["tasks"]) + 2)
    return _rows(found)


def _capped(argv: list[str], limits: Mapping[str, float]) -> list[str]:
    """Lower the limit of open files once more, after PAM: what that sets goes before the unit's.

    Where PAM's is lower still, that holds, since nobody may raise it.
    """
    if "open_files" not in limits:
        return argv
    lower = 'ulimit -n "$0" 2>/dev/null; exec "$@"'
    return ["/bin/sh", "-c", lower, str(int(limits["open_files"])), *argv]


def scope_properties(
    uid: int, name: str, pid: int, limits: Mapping[str, float], systemd: int
) -> Rows:
    """Give the properties of the scope that a forked shim is put into, with what it forks.

    Parameters
    ----------
    systemd : int
        The version that runs.
    """
    found = {
        "Description": Variant("s", f"Jupyter kernel {name} of uid {uid}, forked"),
        "PIDs": Variant("au", [pid]),
        "Slice": Variant("s", f"kconnd-{uid}.slice"),
        "CollectMode": Variant("s", "inactive-or-failed"),
        **_lasting(uid),
        **_confining(limits),
    }
    if systemd >= SCOPES_KNOW_OOM:
        found["OOMPolicy"] = Variant("s", "continue")  # as for a unit
    return _rows(found)


def _lasting(uid: int) -> dict[str, Variant]:
    """Keep a unit where ``systemctl isolate`` goes to another target, as user@.service is kept.

    When the machine shuts down, the owner's daemon ends first, so that it takes no end of a
    kernel for an administrator's order.
    """
    return {
        "IgnoreOnIsolate": Variant("b", True),  # noqa: FBT003  # its own signature
        "Before": Variant("as", [f"kconnd@{uid}.service"]),
        # The shim ends a kernel that ignores SIGTERM after 20 s, and writes down how it ended. The
        # machine's own default can be shorter than that.
        "TimeoutStopUSec": Variant("t", STOP_TIMEOUT_S * 1_000_000),
    }


def _rows(found: Mapping[str, Variant]) -> Rows:
    return [[key, value] for key, value in found.items()]


def _confining(limits: Mapping[str, float]) -> dict[str, Variant]:
    """Give the limits that a cgroup enforces."""
    found: dict[str, Variant] = {}
    if "memory" in limits:
        found["MemoryMax"] = Variant("t", int(limits["memory"]))
        found["MemorySwapMax"] = Variant("t", 0)
    if "cpu" in limits:
        found["CPUQuotaPerSecUSec"] = Variant("t", max(1000, int(limits["cpu"] * 1_000_000)))
    if "tasks" in limits:
        found["TasksMax"] = Variant("t", int(limits["tasks"]) + 1)  # the shim is one
    return found
