"""What systemd and a service tell each other: sd_notify(3), sd_listen_fds(3), watchdog.

All of it is text in the environment and on a socket, so no library is needed; without systemd
each function does nothing.
"""

import os
import socket
from collections.abc import Mapping

FIRST = 3  # the descriptor at which sockets that were passed begin


def notify(**fields: object) -> None:
    """Tell the service manager something, such as ``READY=1`` or ``STATUS="3 kernels"``."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    text = "\n".join(f"{key}={value}" for key, value in fields.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        out.connect("\0" + path[1:] if path.startswith("@") else path)
        out.sendall(text.encode())


def passed_sockets(env: Mapping[str, str]) -> list[socket.socket]:
    """Take the listening sockets that the service manager opened for this process."""
    if env.get("LISTEN_PID") != str(os.getpid()):
        return []
    found = []
    for number in range(FIRST, FIRST + int(env.get("LISTEN_FDS", "0"))):
        os.set_inheritable(number, False)  # noqa: FBT003  # its own signature
        passed = socket.socket(fileno=number)
        passed.setblocking(False)  # noqa: FBT003  # the same
        found.append(passed)
    return found


def watchdog_interval(env: Mapping[str, str]) -> float | None:
    """Give the seconds within which the watchdog wants to hear from us; None without one."""
    if env.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = env.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdigit() and int(microseconds) else None
