"""Query the login manager's settings for the last logout of a user (logind.conf(5)).

The running login manager is queried over the bus, because distributions change the defaults.
"""

import subprocess

TIMEOUT_S = 5.0
REMOVE_IPC_QUERY = (
    "busctl",
    "--system",
    "get-property",
    "org.freedesktop.login1",
    "/org/freedesktop/login1",
    "org.freedesktop.login1.Manager",
    "RemoveIPC",
)


def removes_ipc() -> bool:
    """Check whether logind removes a user's shared memory, semaphores and queues at logout.

    Return False if logind does not run or does not answer.
    """
    try:
        query = subprocess.run(
            REMOVE_IPC_QUERY, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return query.stdout.split() == ["b", "true"]
