"""Decides which limits of a kernel are enforced, and describes the limits that are not enforced.

``limits.memory``, ``limits.cpu`` and ``limits.tasks`` apply to all processes of a kernel together.
Linux enforces such limits by a control group (cgroups(7)) of the kernel's own. On a server, the
front door requests this control group from systemd. Elsewhere, the user's own systemd
(``user@UID.service``) can create it as a scope, with those controllers that the system's systemd
has delegated to the user.

Without a control group, these three limits are not enforced, and the user is told so. No resource
limit of setrlimit(2) replaces one of them. RLIMIT_AS and RLIMIT_DATA count memory that a program
has reserved and does not use: Julia, Java and CUDA reserve more than a machine has, and numpy
reserves 40 MB for each thread of its linear algebra. RLIMIT_NPROC counts all processes of the
user. RLIMIT_CPU ends a process after a total of processor time.

``limits.open_files`` applies to each process, and is RLIMIT_NOFILE with every launcher.
"""

from collections.abc import Mapping
from dataclasses import dataclass

LIMIT_KEYS = ("memory", "cpu", "tasks", "open_files")
# The controller of cgroups(7) that enforces a limit.
CONTROLLERS = {"memory": "memory", "cpu": "cpu", "tasks": "pids"}
MIN_CPU_US = 1000  # the smallest CPUQuotaPerSecUSec that systemd accepts
# From this version of systemd on, scopes have the property OOMPolicy=. By default, these versions
# stop a whole scope if the OOM killer kills a process of the scope. Earlier versions refuse the
# property and do not stop the other processes.
SCOPE_OOM_VERSION = 253
# A kernel's cgroup also contains the shim and, in a unit with PAM, systemd's helper process.
MAX_EXTRA_TASKS = 2
CPU_TOLERANCE = 0.01  # systemd rounds the quota to the kernel's units

NO_MANAGER = "no systemd of this user runs here"
NOT_IN_SLICE = "the daemon runs outside of the user's sessions, for example in a container or job"
ENDS_AT_LOGOUT = (
    "the user's systemd would end the kernel at the last logout; 'loginctl enable-linger' "
    "prevents this"
)
NOT_DELEGATED = "the controller for it is not delegated to the user's systemd"
NO_CGROUP_LIMIT = "its control group has no such limit"


@dataclass(frozen=True)
class UserManager:
    """The user's own systemd, with which limits can be enforced.

    Parameters
    ----------
    controllers : frozenset of str
        The controllers of cgroups(7) that are delegated to the user.
    obstacle : str
        Why kernels get no scope; ``""`` if kernels get scopes.
    """

    controllers: frozenset[str] = frozenset()
    obstacle: str = NO_MANAGER


def find_obstacle(cgroup: str, uid: int, *, has_bus: bool, lingers: bool) -> str:
    """Return why kernels of a daemon cannot have scopes of the user's systemd; ``""`` if they can.

    A kernel must not live shorter in a scope than without one. A kernel must not leave the control
    group of a batch job or container either, because the limits of the job apply to the kernel.

    Parameters
    ----------
    cgroup : str
        The control group of the daemon.
    uid : int
        The user.
    has_bus : bool
        Whether the user's systemd can be reached over the user's bus.
    lingers : bool
        Whether the user's systemd outlives the last logout.
    """
    if not has_bus:
        return NO_MANAGER
    if f"/user-{uid}.slice/" not in f"{cgroup}/":
        return NOT_IN_SLICE
    is_below_manager = f"/user@{uid}.service/" in f"{cgroup}/"
    return "" if lingers or is_below_manager else ENDS_AT_LOGOUT


def needs_cgroup(limits: Mapping[str, float]) -> bool:
    """Return whether limits can only be enforced by a control group."""
    return not CONTROLLERS.keys().isdisjoint(limits)


def foresee(limits: Mapping[str, float], manager: UserManager) -> dict[str, str]:
    """Return the limits that a kernel of this user would not have, with the reasons.

    The kernel is one without the front door.

    Parameters
    ----------
    limits : mapping
        The limits of the profile, as in `kconnd.core.launch.plan.LaunchPlan`.
    manager : UserManager
        The user's own systemd.
    """
    unenforced = {}
    for key, controller in CONTROLLERS.items():
        if key in limits and (manager.obstacle or controller not in manager.controllers):
            unenforced[key] = manager.obstacle or NOT_DELEGATED
    return unenforced


def compare(
    limits: Mapping[str, float], in_force: Mapping[str, float], reasons: Mapping[str, str]
) -> tuple[dict[str, float], dict[str, str]]:
    """Compare the limits of a profile with the limits that are in force for a process.

    Parameters
    ----------
    limits : mapping
        The limits of the profile.
    in_force : mapping
        The limits that the operating system reports, with the same keys.
    reasons : mapping
        The known reasons why limits are not enforced.

    Returns
    -------
    tuple of dict
        The enforced limits, and the limits that are not enforced with the reasons.
    """
    enforced: dict[str, float] = {}
    unenforced: dict[str, str] = {}
    for key, limit in limits.items():
        actual = in_force.get(key)
        if key == "open_files":
            enforced[key] = limit if actual is None else min(limit, actual)
            if enforced[key] < limit:
                unenforced[key] = f"each process may open only {actual:.0f} here"
        elif actual is not None and actual <= limit + _tolerance(key):
            enforced[key] = min(limit, actual) if key == "memory" else limit
        else:
            unenforced[key] = reasons.get(key, NO_CGROUP_LIMIT)
    return enforced, unenforced


def _tolerance(key: str) -> float:
    return {"tasks": MAX_EXTRA_TASKS, "cpu": CPU_TOLERANCE}.get(key, 0)


def describe_unenforced(unenforced: Mapping[str, str]) -> str:
    """Describe limits that are not enforced in one line; ``""`` if all limits are enforced."""
    keys_by_reason: dict[str, list[str]] = {}
    for key, reason in unenforced.items():
        keys_by_reason.setdefault(reason, []).append(f"limits.{key}")
    return "; ".join(
        f"{', '.join(keys)} {'is' if len(keys) == 1 else 'are'} not enforced: {reason}"
        for reason, keys in keys_by_reason.items()
    )


def cgroup_properties(limits: Mapping[str, float]) -> dict[str, tuple[str, int]]:
    """Return the properties of a unit that enforce limits: signature of D-Bus, and value."""
    rows: dict[str, tuple[str, int]] = {}
    if "memory" in limits:
        rows["MemoryMax"] = ("t", int(limits["memory"]))
        rows["MemorySwapMax"] = ("t", 0)
    if "cpu" in limits:
        rows["CPUQuotaPerSecUSec"] = ("t", max(MIN_CPU_US, int(limits["cpu"] * 1_000_000)))
    if "tasks" in limits:
        rows["TasksMax"] = ("t", int(limits["tasks"]) + 1)  # the shim is the additional task
    return rows
