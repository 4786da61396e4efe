"""What this machine is: its id, its port ranges, its users."""

import os
import pwd
from pathlib import Path

from kconnd.core.launch.plan import User
from kconnd.core.logout import ends_at_logout

EPHEMERAL = (32768, 60999)  # Linux's own default


def machine_id() -> str:
    """Read the id that tells this machine from others with the same home (machine-id(5))."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            if found := Path(path).read_text(encoding="ascii").strip():
                return found
        except OSError:
            continue
    return os.uname().nodename


def ephemeral_ports() -> tuple[int, int]:
    """Read the range that outgoing connections take their ports from (ip(7))."""
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
    except OSError:
        return EPHEMERAL
    first, last = text.split()
    return int(first), int(last)


def own_user() -> User:
    """Look up the user that this process runs as."""
    uid = os.geteuid()
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # a uid without a name, as containers have
        return User(str(uid), uid, os.environ.get("HOME", "/"), "/bin/sh")
    return User(entry.pw_name, uid, entry.pw_dir, entry.pw_shell or "/bin/sh")


def user_name(uid: int) -> str:
    """Give a user's name, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def find_uid(user: str) -> int | None:
    """Give a user's uid, or None where there is no such user."""
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def lingers(user: str) -> bool:
    """Tell whether a user's services live on after the last logout (loginctl(1))."""
    return Path("/var/lib/systemd/linger", user).exists()


def kills_user_processes(user: str) -> bool:
    """Tell whether logind ends what a user leaves running at logout (logind.conf(5))."""
    settings = {"KillUserProcesses": "no", "KillOnlyUsers": "", "KillExcludeUsers": "root"}
    for path in _logind_files():
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for line in text.splitlines():
            key, equals, given = line.partition("=")
            if equals and key.strip() in settings:
                settings[key.strip()] = given.strip()
    return ends_at_logout(settings, user)


def _logind_files() -> list[Path]:
    """List logind's configuration in the order in which later files go before earlier ones."""
    drop_ins: dict[str, Path] = {}
    for root in ("/usr/lib/systemd", "/run/systemd", "/etc/systemd"):
        for path in Path(root, "logind.conf.d").glob("*.conf"):
            drop_ins[path.name] = path
    return [Path("/etc/systemd/logind.conf"), *(drop_ins[name] for name in sorted(drop_ins))]
