"""Decides from sockets and ports whether a new client can attach to a live kernel.

A kernel that answers the daemon may still be unreachable for new clients. There are four causes:

- The kernel's Unix sockets were deleted.
- The kernel has not bound the ports in its connection file.
- Another program uses one of the ports.
- The connection file is missing and cannot be rewritten.

A client needs the channels shell, iopub, control and heartbeat. A missing stdin channel is no
fault, because nothing but ``input()`` needs it.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from kconnd.core.launch.connection import CHANNELS, ConnectionInfo

REQUIRED_CHANNELS = tuple(channel for channel in CHANNELS if channel != "stdin")
BOUND_INSTEAD = "instead it has bound"
LISTENING = "0A"  # TCP_LISTEN in proc_pid_net(5)
ACCEPTS_CONNECTIONS = 1 << 16  # __SO_ACCEPTCON of Linux, in the flags of a Unix socket
UNIX_FIELDS = 8  # the number of fields in the row of a Unix socket that has a path


@dataclass(frozen=True)
class Listener:
    """A listening TCP socket: its port, its inode, and whether it listens on every address."""

    port: int
    inode: int
    on_every_address: bool = False


def parse_listeners(tables: Iterable[str]) -> frozenset[Listener]:
    """Return the listening sockets in the texts of tables such as ``/proc/net/tcp``."""
    rows = (line.split() for table in tables for line in table.splitlines()[1:])
    return frozenset(_parse_listener(row) for row in rows if row[3] == LISTENING)


def _parse_listener(row: list[str]) -> Listener:
    address, _, port = row[1].rpartition(":")
    return Listener(int(port, 16), int(row[9]), on_every_address=not address.strip("0"))


def parse_unix_listeners(table: str) -> dict[int, str]:
    """Return the path of each listening Unix socket, by inode, from ``/proc/net/unix``."""
    rows = (line.split(maxsplit=7) for line in table.splitlines()[1:])
    return {
        int(row[6]): row[7]
        for row in rows
        if len(row) == UNIX_FIELDS and int(row[3], 16) & ACCEPTS_CONNECTIONS
    }


def find_ipc_fault(connection: ConnectionInfo, listens: Callable[[str], bool]) -> str:
    """Describe which Unix sockets of a kernel accept no clients; ``""`` if all accept clients.

    Parameters
    ----------
    connection : ConnectionInfo
        The content of the kernel's connection file.
    listens : callable
        A function that returns whether a path is a Unix socket that accepts connections.
    """
    paths = dict(zip(CHANNELS, connection.socket_paths(), strict=True))
    dead = [channel for channel in REQUIRED_CHANNELS if not listens(paths[channel])]
    if not dead:
        return ""
    dead_paths = ", ".join(paths[channel] for channel in dead)
    return f"nothing listens on its {_join_channels(dead)} ({dead_paths})"


def find_tcp_fault(
    connection: ConnectionInfo, listeners: Collection[Listener], own: Collection[int]
) -> str:
    """Describe which TCP ports of a kernel accept no clients or belong to another program.

    The result is ``""`` if there are no such ports.

    Parameters
    ----------
    connection : ConnectionInfo
        The content of the kernel's connection file.
    listeners : collection of Listener
        All listening sockets of this machine.
    own : collection of int
        The inodes of the sockets of the kernel's processes; empty if the inodes cannot be read.
    """
    ports = dict(zip(CHANNELS, connection.ports, strict=True))
    inodes = {
        port: {listener.inode for listener in listeners if listener.port == port}
        for port in ports.values()
    }
    dead = [channel for channel in REQUIRED_CHANNELS if not inodes[ports[channel]]]
    if dead:
        bound = {socket.port for socket in listeners if socket.inode in own} - set(ports.values())
        instead = f"; {BOUND_INSTEAD} {_numbers(sorted(bound))}" if bound else ""
        numbers = _numbers(ports[channel] for channel in dead)
        return f"nothing listens on its {_join_channels(dead)} ({numbers}){instead}"
    # A proxy of another user, such as that of a container, can listen on all ports of a kernel. In
    # this case the kernel owns none of the listening sockets, and there is no fault.
    own_channels = {channel for channel in CHANNELS if inodes[ports[channel]] & set(own)}
    foreign = [c for c in REQUIRED_CHANNELS if own_channels and c not in own_channels]
    if not foreign:
        return ""
    numbers = _numbers(ports[channel] for channel in foreign)
    return f"another program listens on its {_join_channels(foreign)} ({numbers})"


def _join_channels(channels: list[str]) -> str:
    *first, last = channels
    return f"{', '.join(first)} and {last} channels" if first else f"{last} channel"


def _numbers(ports: Iterable[int]) -> str:
    return ", ".join(map(str, ports))


def attach_hint(name: str) -> str:
    """Return the hint for a kernel that no new client can attach to."""
    return (
        "save its data from a client that is still attached; then run "
        f"kconnd-ctl restart {name} for a new process"
    )
