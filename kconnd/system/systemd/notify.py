"""The protocol between systemd and a service: sd_notify(3), sd_listen_fds(3) and the watchdog.

The protocol consists of environment variables and text on a socket, so no library is needed.
Without systemd, `notify` does nothing, and the other functions find nothing.
"""

import os
import socket
from collections.abc import Mapping

FIRST_DESCRIPTOR = 3  # the first socket that systemd passes


def notify(**fields: object) -> None:
    """Send fields such as ``READY=1`` or ``STATUS="3 kernels"`` to the service manager."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    text = "\n".join(f"{key}={value}" for key, value in fields.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.connect("\0" + path[1:] if path.startswith("@") else path)
        manager.sendall(text.encode())


def passed_sockets(env: Mapping[str, str]) -> list[socket.socket]:
    """Return the listening sockets that the service manager opened for this process."""
    if env.get("LISTEN_PID") != str(os.getpid()):
        return []
    sockets = []
    count = int(env.get("LISTEN_FDS", "0"))
    for descriptor in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + count):
        os.set_inheritable(descriptor, False)  # noqa: FBT003  # a positional-only parameter
        listener = socket.socket(fileno=descriptor)
        listener.setblocking(False)  # noqa: FBT003  # a positional-only parameter
        sockets.append(listener)
    return sockets


def watchdog_interval(env: Mapping[str, str]) -> float | None:
    """Return the watchdog's time limit in seconds; None without a watchdog."""
    if env.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = env.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdigit() and int(microseconds) else None
