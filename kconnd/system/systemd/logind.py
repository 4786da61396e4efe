"""What the login manager does when a user logs out for the last time (logind.conf(5)).

The manager is asked over the bus for what holds: distributions build it with other defaults.
"""

import subprocess

TIMEOUT_S = 5.0
REMOVE_IPC = (
    "busctl",
    "--system",
    "get-property",
    "org.freedesktop.login1",
    "/org/freedesktop/login1",
    "org.freedesktop.login1.Manager",
    "RemoveIPC",
)


def removes_ipc() -> bool:
    """Tell whether logind removes a user's shared memory, semaphores and queues at logout.

    False where there is no logind that says so.
    """
    try:
        done = subprocess.run(
            REMOVE_IPC, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.stdout.split() == ["b", "true"]
