"""The paths of kconnd's sockets, state and configuration.

Rules. All functions are pure; the caller passes the environment. This module imports nothing slow,
because every command of the client imports it. For users who do not linger, the folder for sockets
and connection files is below /tmp: their ``$XDG_RUNTIME_DIR`` is deleted at the last logout, but
their kernels must survive (see "XDG Base Directory Specification" and loginctl(1)).
"""

from __future__ import annotations

import os.path

TYPE_CHECKING = False  # importing typing takes longer than importing the rest of this module
if TYPE_CHECKING:
    from collections.abc import Mapping

SOCKET_NAME = "kconnd.sock"
# Paths on a machine with the front door (file-hierarchy(7)):
FRONT_SOCKET = "/run/kconnd/kconnd.sock"
RUN_DIR = "/run/kconnd"
STATE_DIR = "/var/lib/kconnd"
OWNER_SOCKETS_DIR = "/run/kconnd/s"
OWNER_RUNTIME_DIR = "/run/kconnd/u"
SETTINGS_FILE = "/etc/kconnd/kconnd.yaml"
SYSTEM_CONFIGS_DIR = "/etc/kconnd/configs"
BOOT_DIR = "/var/lib/kconnd/boot"
LIMITS_DIR = "/run/kconnd/limits"
SHARING_DIR = "/run/kconnd/sharing"
KERNEL_UNIT_PREFIX = "kconnd-kernel-"  # the unit of each kernel has a name with this prefix


def owner_socket(uid: int) -> str:
    """Return the socket of a user's daemon on a machine with the front door."""
    return f"{OWNER_SOCKETS_DIR}/{uid}"


def owner_folder(uid: int) -> str:
    """Return a user's folder for sockets and connection files on a machine with the front door."""
    return f"{OWNER_RUNTIME_DIR}/{uid}"


def daemon_cgroup(uid: int) -> str:
    """Return the control group of a user's daemon on a machine with the front door."""
    return f"/kconnd.slice/kconnd-{uid}.slice/kconnd@{uid}.service"


def home_dir(env: Mapping[str, str], account_home: str) -> str:
    """Return a user's home folder, for the client, the daemon and kernels alike.

    As in Jupyter, ``HOME`` in the environment takes precedence over the home folder of the account
    (passwd(5)). A relative path in ``HOME`` is ignored, because its meaning would change with each
    ``cd``.
    """
    home = env.get("HOME", "")
    return home if os.path.isabs(home) else account_home or "/"


def runtime_dir(env: Mapping[str, str], uid: int, *, lingers: bool) -> str:
    """Choose a user's folder for sockets and connection files on a machine without the front door.

    Parameters
    ----------
    env : mapping
        The user's environment.
    uid : int
        The user's id.
    lingers : bool
        Whether the user's ``$XDG_RUNTIME_DIR`` outlives the last logout.

    Returns
    -------
    str
        ``$XDG_RUNTIME_DIR/kconnd`` or ``/tmp/kconnd-UID``.
    """
    xdg = env.get("XDG_RUNTIME_DIR", "")
    if lingers and os.path.isabs(xdg):
        return os.path.join(xdg, "kconnd")
    return f"/tmp/kconnd-{uid}"  # noqa: S108  # owner and mode are verified


def state_dir(env: Mapping[str, str], home: str, machine_id: str) -> str:
    """Return the folder for records and logs.

    Each machine uses its own folder, because machines can share a home.
    """
    base = _xdg(env, "XDG_STATE_HOME", os.path.join(home, ".local", "state"))
    return os.path.join(base, "kconnd", machine_id)


def config_dir(env: Mapping[str, str], home: str) -> str:
    """Return the folder that profiles are read from."""
    base = _xdg(env, "XDG_CONFIG_HOME", os.path.join(home, ".config"))
    return os.path.join(base, "kconnd", "configs")


def jupyter_data_dir(env: Mapping[str, str], home: str) -> str:
    """Return a user's data folder of Jupyter, which contains kernel specs (jupyter_core.paths)."""
    default = os.path.join(_xdg(env, "XDG_DATA_HOME", os.path.join(home, ".local", "share")))
    return env.get("JUPYTER_DATA_DIR") or os.path.join(default, "jupyter")


def jupyter_runtime_dir(env: Mapping[str, str], home: str) -> str:
    """Return the folder where Jupyter looks for a user's connection files."""
    return env.get("JUPYTER_RUNTIME_DIR") or os.path.join(jupyter_data_dir(env, home), "runtime")


def _xdg(env: Mapping[str, str], name: str, default: str) -> str:
    """Return a base directory from the environment, or ``default``.

    A relative path in the environment is ignored, as the specification requires.
    """
    value = env.get(name, "")
    return value if os.path.isabs(value) else default
