"""Facts about this machine: its id, port ranges, users and logout settings."""

import os
import pwd
from pathlib import Path

from kconnd.core.launch.plan import User
from kconnd.core.logout import ends_at_logout, linger_mark
from kconnd.core.paths import home_dir

DEFAULT_EPHEMERAL_PORTS = (32768, 60999)  # Linux's default


def machine_id() -> str:
    """Read the id that distinguishes the machines that share a home (machine-id(5))."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            if text := Path(path).read_text(encoding="ascii").strip():
                return text
        except OSError:
            continue
    return os.uname().nodename


def ephemeral_ports() -> tuple[int, int]:
    """Read the range of local ports of outgoing connections (ip(7))."""
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
    except OSError:
        return DEFAULT_EPHEMERAL_PORTS
    first, last = text.split()
    return int(first), int(last)


def own_user() -> User:
    """Look up the user of this process.

    The home folder is that of `kconnd.core.paths.home_dir`. For root, a home folder that belongs to
    another user is ignored: after ``sudo -E``, root would run the profiles of this user, and create
    files that the user cannot change.
    """
    uid = os.geteuid()
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # a uid can have no name, for example in a container
        return User(str(uid), uid, home_dir(os.environ, "/"), "/bin/sh")
    home = home_dir(os.environ, entry.pw_dir)
    if uid == 0 and _belongs_to_another(home):
        home = entry.pw_dir
    return User(entry.pw_name, uid, home, entry.pw_shell or "/bin/sh")


def account_home(uid: int) -> str:
    """Return the home folder of a user's account; ``""`` if the user has no account."""
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return ""


def _belongs_to_another(folder: str) -> bool:
    try:
        return Path(folder).stat().st_uid != os.geteuid()
    except OSError:
        return False


def user_name(uid: int) -> str:
    """Return a user's name, or the uid as text if the user has no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def find_uid(user: str) -> int | None:
    """Return a user's uid; None if there is no such user."""
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def lingers(user: str) -> bool:
    """Check whether a user's services keep running after the last logout (loginctl(1))."""
    return "/" not in user and Path("/var/lib/systemd/linger", linger_mark(user)).exists()


def kills_user_processes(user: str) -> bool:
    """Check whether logind kills a user's remaining processes at logout (logind.conf(5))."""
    settings = {"KillUserProcesses": "no", "KillOnlyUsers": "", "KillExcludeUsers": "root"}
    for path in _logind_files():
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for line in text.splitlines():
            key, equals, setting = line.partition("=")
            if equals and key.strip() in settings:
                settings[key.strip()] = setting.strip()
    return ends_at_logout(settings, user)


def _logind_files() -> list[Path]:
    """Return logind's configuration files; a later file overrides an earlier file."""
    drop_ins: dict[str, Path] = {}
    for root in ("/usr/lib/systemd", "/run/systemd", "/etc/systemd"):
        for path in Path(root, "logind.conf.d").glob("*.conf"):
            drop_ins[path.name] = path
    return [Path("/etc/systemd/logind.conf"), *(drop_ins[name] for name in sorted(drop_ins))]
