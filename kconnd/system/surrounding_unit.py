"""Looks up with which job, unit or container a process ends."""

import subprocess
from pathlib import Path
from shutil import which

from kconnd.core.job_cgroups import Enclosure, Kind, find_enclosure

SYSTEMCTL_LIMIT_S = 5.0
CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")  # of docker and podman
SPARING_MODES = ("process", "none")  # values of KillMode= with which processes survive a stop


def enclosure_of(pid: int | str) -> Enclosure | None:
    """Return with what a process ends; None if nothing is known that ends it.

    A service that spares all processes except the main process when it stops does not count.
    """
    try:
        cgroup = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    enclosure = find_enclosure(cgroup)
    if enclosure is None and any(Path(mark).exists() for mark in CONTAINER_MARKS):
        return Enclosure(Kind.CONTAINER, "this container")  # which may see no cgroup except its own
    if enclosure is None or not enclosure.unit:
        return enclosure
    return None if _kill_mode(enclosure) in SPARING_MODES else enclosure


def _kill_mode(enclosure: Enclosure) -> str:
    systemctl = which("systemctl")
    if systemctl is None:
        return ""
    user = ["--user"] if enclosure.kind is Kind.USER_UNIT else []
    command = [systemctl, *user, "show", "--property=KillMode", "--value", "--", enclosure.unit]
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, text=True, timeout=SYSTEMCTL_LIMIT_S
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
