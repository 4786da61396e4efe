"""Decides whether a logout terminates a process, and which command prevents the termination.

Sources: logind.conf(5) on KillUserProcesses, loginctl(1) on lingering, systemd-run(1), example
"Start screen as a user service". A process is terminated when its unit stops. At logout, logind
stops the unit of the login (``session-3.scope``) if KillUserProcesses is set for the user. After
the last logout, the unit of the user's own systemd (``user@1000.service``) stops unless the user
lingers. The terminals of a desktop run in the unit of the user's own systemd.
"""

from collections.abc import Mapping

LINGER_COMMAND = "loginctl enable-linger"
OWN_SCOPE_COMMAND = "systemd-run --user --scope kconnd-ctl start NAME"


MAX_SYSTEM_UID = 999  # logind does not remove the shared memory of system users
KEEP_IPC_COMMAND = "as root: scripts/install --keep-ipc"


def cure_for_shared_memory(uid: int, *, removes_ipc: bool, lingers: bool) -> str:
    """Return the commands that keep a user's shared memory after the last logout.

    Parameters
    ----------
    uid : int
        The user.
    removes_ipc : bool
        Whether logind removes the user's shared memory (``RemoveIPC=`` in logind.conf(5)).
    lingers : bool
        Whether the user lingers; for logind, a lingering user never logs out.

    Returns
    -------
    str
        The commands; ``""`` if no command is needed.
    """
    return (
        f"{LINGER_COMMAND}; or, {KEEP_IPC_COMMAND}"
        if removes_ipc and not lingers and uid > MAX_SYSTEM_UID
        else ""
    )


def cure_for_logout(cgroup: str, *, kills: bool, lingers: bool) -> str:
    """Return the commands that keep a process alive after the logout of its user.

    Parameters
    ----------
    cgroup : str
        The content of the ``/proc/PID/cgroup`` of the process (cgroups(7)).
    kills : bool
        Whether logind, at a logout, terminates the remaining processes of the login.
    lingers : bool
        Whether the user's own systemd outlives the last logout.

    Returns
    -------
    str
        The commands; ``""`` if no command is needed.
    """
    if "/user@" in cgroup:
        return "" if lingers else LINGER_COMMAND
    if "/session-" in cgroup and kills:
        return OWN_SCOPE_COMMAND if lingers else f"{LINGER_COMMAND} && {OWN_SCOPE_COMMAND}"
    return ""


def linger_mark(user: str) -> str:
    r"""Return the name of the file by which logind records that a user lingers.

    logind escapes a user's name as C does: a backslash, a quote, and each byte outside of ASCII.
    For ``EXAMPLE\jane``, the file is ``EXAMPLE\\jane``.
    """
    return "".join(map(_escape_byte, user.encode(errors="surrogateescape")))


def _escape_byte(byte: int) -> str:
    char = chr(byte)
    if char in {"\\", '"', "'"}:
        return f"\\{char}"
    return char if " " <= char <= "~" else f"\\{byte:03o}"


def ends_at_logout(settings: Mapping[str, str], user: str) -> bool:
    """Return whether logind terminates processes that still run at the logout (logind.conf(5)).

    Parameters
    ----------
    settings : mapping
        The values of ``KillUserProcesses``, ``KillOnlyUsers`` and ``KillExcludeUsers``, as text.
    user : str
        The user's login name.
    """
    only, excluded = settings["KillOnlyUsers"].split(), settings["KillExcludeUsers"].split()
    if user in excluded or (only and user not in only):
        return False
    return settings["KillUserProcesses"].lower() in {"1", "yes", "true", "on"}
