"""Read the sockets on which a kernel's processes listen, and greet those that may speak ZMTP.

A greeting is the first 64 bytes of a ZMTP 3 connection (https://rfc.zeromq.org/spec/23/). The
greeting of a kernel names the kernel's security mechanism, and so shows whether the kernel encrypts
its channels. This module then closes the connection, so the kernel receives no message.
"""

import contextlib
import os
import socket
from collections.abc import Collection
from pathlib import Path

from kconnd.core.kernel.exposure import describe_exposure
from kconnd.core.kernel.reachability import parse_listeners, parse_unix_listeners
from kconnd.core.kernel.refused_wire import ListeningSockets, RefusedWire, find_refusal
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.protocol.zmtp import GREETING, parse_mechanism
from kconnd.system.process.processes import ProcessId, descendants
from kconnd.system.process.resource_usage import sockets_of

GREETING_TIMEOUT_S = 0.5
VERSION_END = 12  # the end of the signature and the version, which come first in a greeting
LOOPBACK = "127.0.0.1"
NET = Path("/proc/self/net")


def list_sockets(root: ProcessId) -> frozenset[int]:
    """List the inodes of all sockets of a process and its descendants."""
    inodes: set[int] = set()
    for process in (root, *descendants(root)):
        with contextlib.suppress(OSError):  # the process has exited
            inodes.update(sockets_of(process.pid))
    return frozenset(inodes)


def read_listeners(sockets: Collection[int]) -> ListeningSockets:
    """Read on which addresses some sockets listen.

    Parameters
    ----------
    sockets : collection of int
        The inodes of the sockets.

    Raises
    ------
    OSError, ValueError
        If the system's socket tables in ``/proc`` cannot be read.
    """
    tables = [(NET / name).read_text("ascii") for name in ("tcp", "tcp6")]
    unix = parse_unix_listeners((NET / "unix").read_text("utf-8", "replace"))
    return ListeningSockets(
        tcp=frozenset(item for item in parse_listeners(tables) if item.inode in sockets),
        unix=frozenset(path for inode, path in unix.items() if inode in sockets),
    )


def read_refusal(connection: ConnectionInfo, root: ProcessId) -> RefusedWire | None:
    """Return how a starting kernel visibly deviates from its connection file, or None."""
    ip = connection.ip if connection.transport == "tcp" else LOOPBACK
    try:
        listeners = read_listeners(list_sockets(root))
        return find_refusal(connection, listeners, lambda port: greet(ip, port))
    except (OSError, ValueError, IndexError):
        return None


def has_bound(connection: ConnectionInfo, root: ProcessId) -> bool:
    """Return whether a client can have reached a kernel on one of its sockets; True in doubt.

    A deleted Unix socket is found in the system's table, and a kernel in another network namespace
    by connecting.
    """
    try:
        listeners = read_listeners(list_sockets(root))
    except (OSError, ValueError, IndexError):
        return True
    if connection.transport == "ipc":
        paths = connection.socket_paths()
        return bool(set(paths) & set(listeners.unix)) or any(map(os.path.lexists, paths))
    ports = set(connection.ports)
    return any(item.port in ports for item in listeners.tcp) or any(
        _accepts(connection.ip, port) for port in ports
    )


def _accepts(ip: str, port: int) -> bool:
    """Return whether a TCP port does not refuse a connection."""
    try:
        with socket.create_connection((_to_connect(ip), port), GREETING_TIMEOUT_S):
            return True
    except ConnectionRefusedError:
        return False
    except OSError:
        return True


def read_exposure(connection: ConnectionInfo, sockets: Collection[int]) -> tuple[str, ...]:
    """Describe a kernel's listening TCP sockets that deviate from its connection file.

    Parameters
    ----------
    connection : ConnectionInfo
        The content of the kernel's connection file.
    sockets : collection of int
        The inodes of the sockets that the kernel had when it gave its first answer. A socket that
        the user's code opens later must not be greeted, because the code may expect another client.
    """
    try:
        listeners = read_listeners(sockets).tcp
        return describe_exposure(connection, listeners, lambda port: greet(LOOPBACK, port))
    except (OSError, ValueError, IndexError):
        return ()


def greet(ip: str, port: int) -> str:
    """Return the ZMTP security mechanism of a listener; ``""`` if it does not speak ZMTP."""
    greeting = b""
    try:
        with socket.create_connection((_to_connect(ip), port), GREETING_TIMEOUT_S) as peer:
            # The listener sends its whole greeting before it can refuse our mechanism, because we
            # never send our mechanism.
            peer.sendall(GREETING[:VERSION_END])
            while len(greeting) < len(GREETING) and (data := peer.recv(len(GREETING))):
                greeting += data
    except OSError:
        return ""
    return parse_mechanism(greeting)


def _to_connect(ip: str) -> str:
    """Return the address at which this machine reaches a listener on an address."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(ip, ip)  # noqa: S104  # to connect to
