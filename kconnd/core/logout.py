"""Whether a logout ends a process, and what would keep it: pure, from what the system says.

Sources: logind.conf(5) on KillUserProcesses, loginctl(1) on lingering, systemd-run(1), example
"Start screen as a user service". A process is ended with the unit that it is in: that of the
login (``session-3.scope``) where logind is told to, that of the user's own systemd
(``user@1000.service``, where desktops put their terminals) unless the user lingers.
"""

from collections.abc import Mapping

LINGER_COMMAND = "loginctl enable-linger"
OWN_SCOPE_COMMAND = "systemd-run --user --scope kconnd-ctl start NAME"


SYSTEM_UID_MAX = 999  # logind leaves alone what belongs to system users
KEEP_IPC_COMMAND = "as root: scripts/install --keep-ipc"


def cure_for_shared_memory(uid: int, *, removes_ipc: bool, lingers: bool) -> str:
    """Tell what keeps a user's shared memory at the last logout.

    Parameters
    ----------
    uid : int
        Whose it is.
    removes_ipc : bool
        Whether logind removes what the user has of it (``RemoveIPC=`` in logind.conf(5)).
    lingers : bool
        Whether to logind the user never leaves.

    Returns
    -------
    str
        Commands, or ``""`` where it is kept.
    """
    return (
        f"{LINGER_COMMAND}; or, {KEEP_IPC_COMMAND}"
        if removes_ipc and not lingers and uid > SYSTEM_UID_MAX
        else ""
    )


def cure_for_logout(cgroup: str, *, kills: bool, lingers: bool) -> str:
    """Tell what keeps a process from being ended at logout.

    Parameters
    ----------
    cgroup : str
        The content of its ``/proc/PID/cgroup`` (cgroups(7)).
    kills : bool
        Whether logind ends what is left of a login.
    lingers : bool
        Whether the user's own systemd outlives the last logout.

    Returns
    -------
    str
        Commands, or ``""`` where it is not ended.
    """
    if "/user@" in cgroup:
        return "" if lingers else LINGER_COMMAND
    if "/session-" in cgroup and kills:
        return OWN_SCOPE_COMMAND if lingers else f"{LINGER_COMMAND} && {OWN_SCOPE_COMMAND}"
    return ""


def ends_at_logout(settings: Mapping[str, str], user: str) -> bool:
    """Tell whether logind ends what is left of a user's login (logind.conf(5)).

    Parameters
    ----------
    settings : mapping
        ``KillUserProcesses``, ``KillOnlyUsers`` and ``KillExcludeUsers``, as written.
    user : str
        Its name.
    """
    only, excluded = settings["KillOnlyUsers"].split(), settings["KillExcludeUsers"].split()
    if user in excluded or (only and user not in only):
        return False
    return settings["KillUserProcesses"].lower() in {"1", "yes", "true", "on"}
