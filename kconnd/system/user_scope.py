"""Moves processes into scopes of the user's own systemd, which enforces limits for them.

The user's systemd is called through busctl(1), which is installed with systemd. A D-Bus library is
therefore not needed on the machines of ordinary users, and a daemon without limits needs no memory
for it.
"""

import os
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from kconnd.core.launch.plan import User
from kconnd.core.limits import (
    UserManager,
    describe_unenforced,
    find_obstacle,
    foresee,
    needs_cgroup,
)
from kconnd.errors import KconndError
from kconnd.system.machine import lingers
from kconnd.system.process.cgroups import cgroup_of

BUSCTL = ("busctl", "--user")
DESTINATION = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
MANAGER = "org.freedesktop.systemd1.Manager"
CALL_LIMIT_S = 10.0
MOVE_LIMIT_S = 5.0
POLL_INTERVAL_S = 0.005  # a move into a cgroup raises no event
CGROUP_ROOT = "/sys/fs/cgroup"
Properties = Mapping[str, tuple[str, int | str]]  # the signature of D-Bus and the value


def find_user_manager(user: User, daemon: int | None = None) -> UserManager:
    """Find out what the user's own systemd can enforce for kernels.

    Parameters
    ----------
    user : User
        The owner of the kernels.
    daemon : int, optional
        The pid of the daemon that starts the kernels; by default this process.
    """
    has_bus = Path(_bus(user.uid)).is_socket()
    cgroup = cgroup_of(os.getpid() if daemon is None else daemon)
    obstacle = find_obstacle(cgroup, user.uid, has_bus=has_bus, lingers=lingers(user.name))
    return UserManager(_delegated_controllers(user.uid), obstacle)


def describe_missing_limits(
    user: User, limits: Mapping[str, float], daemon: int | None = None
) -> str:
    """Describe the limits that a kernel which this user starts would not have; ``""`` for none.

    See `find_user_manager` for ``daemon``. On a server, the front door enforces the limits of
    kernels, and the result does not apply.
    """
    if not needs_cgroup(limits):
        return ""
    return describe_unenforced(foresee(limits, find_user_manager(user, daemon)))


def _delegated_controllers(uid: int, root: str = CGROUP_ROOT) -> frozenset[str]:
    """Return the controllers of cgroups(7) that are delegated to the user's own systemd."""
    top = cgroup_of(1).removesuffix("/init.scope").rstrip("/")
    manager = f"{top}/user.slice/user-{uid}.slice/user@{uid}.service"
    try:
        unified = Path(f"{root}{manager}/cgroup.controllers").read_text(encoding="ascii")
        return frozenset(unified.split())
    except OSError:
        # In cgroup v1, each controller has its own tree. Systemd itself delegates none of them.
        names = ("memory", "cpu", "pids")
        return frozenset(name for name in names if os.access(f"{root}/{name}{manager}", os.W_OK))


def read_manager_version(uid: int) -> int:
    """Return the major version of the user's systemd; 0 if the version cannot be parsed.

    Raises
    ------
    KconndError
        If the user's systemd does not answer.
    """
    digits = re.search(r"\d+", _busctl(uid, "get-property", *DESTINATION, MANAGER, "Version"))
    return int(digits[0]) if digits else 0


def start_scope(
    uid: int, unit: str, pid: int, properties: Properties, limit_s: float = MOVE_LIMIT_S
) -> None:
    """Move a process into a new scope of the user's systemd; its later children join the scope.

    Raises
    ------
    KconndError
        If the user's systemd does not answer, refuses, or does not move the process in time.
    """
    words = ["PIDs", "au", "1", str(pid)]
    for name, (signature, value) in properties.items():
        words += [name, signature, str(value)]
    arguments = (unit, "fail", str(1 + len(properties)), *words, "0")
    _busctl(
        uid, "call", *DESTINATION, MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", *arguments
    )
    deadline = time.monotonic() + limit_s
    while not cgroup_of(pid).endswith(f"/{unit}"):
        if time.monotonic() > deadline:
            raise KconndError(f"the user's systemd did not move process {pid} into {unit}")
        time.sleep(POLL_INTERVAL_S)


def _bus(uid: int) -> str:
    return f"/run/user/{uid}/bus"


def _busctl(uid: int, *words: str) -> str:
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "XDG_RUNTIME_DIR": f"/run/user/{uid}",
        "DBUS_SESSION_BUS_ADDRESS": f"unix:path={_bus(uid)}",
    }
    try:
        process = subprocess.run(
            [*BUSCTL, *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CALL_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise KconndError(f"calling the user's systemd: {error}") from error
    if process.returncode:
        raise KconndError(f"the user's systemd refused: {process.stderr.strip()}")
    return process.stdout.strip()
