"""Whether a new client can attach to a kernel that lives, from what can be seen: pure.

That a kernel has answered the daemon is not enough. Its sockets can have been deleted, it can have
bound other ports than it was told, another program can have one of its ports, and its connection
file can be gone where it cannot be written again. Clients need shell, iopub, control and the
heartbeat; stdin is needed by ``input()`` alone.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from kconnd.core.launch.connection import CHANNELS, ConnectionInfo

REQUIRED_CHANNELS = tuple(channel for channel in CHANNELS if channel != "stdin")
BOUND_INSTEAD = "in their place it has bound"
LISTENING = "0A"  # a state of sockets in proc_pid_net(5)


@dataclass(frozen=True)
class Listener:
    """A listening TCP socket: its port and its inode."""

    port: int
    inode: int


def parse_listeners(tables: Iterable[str]) -> frozenset[Listener]:
    """Find who listens, in tables such as ``/proc/net/tcp``."""
    rows = (line.split() for table in tables for line in table.splitlines()[1:])
    return frozenset(
        Listener(int(row[1].rpartition(":")[2], 16), int(row[9]))
        for row in rows
        if row[3] == LISTENING
    )


def find_ipc_fault(connection: ConnectionInfo, listens: Callable[[str], bool]) -> str:
    """Say which sockets of a kernel no client can connect to; empty where all is well.

    Parameters
    ----------
    connection : ConnectionInfo
        Where it was told to listen.
    listens : callable
        Tells whether a Unix socket can be connected to.
    """
    paths = dict(zip(CHANNELS, connection.socket_paths(), strict=True))
    dead = [channel for channel in REQUIRED_CHANNELS if not listens(paths[channel])]
    if not dead:
        return ""
    return f"nothing listens on its {_listed(dead)} ({', '.join(paths[one] for one in dead)})"


def find_tcp_fault(
    connection: ConnectionInfo, listeners: Collection[Listener], own: Collection[int]
) -> str:
    """Say the same of a kernel on tcp.

    Parameters
    ----------
    connection : ConnectionInfo
        Where it was told to listen.
    listeners : collection of Listener
        All of this machine.
    own : collection of int
        The inodes of the sockets of the kernel's processes; empty where they cannot be read.
    """
    ports = dict(zip(CHANNELS, connection.ports, strict=True))
    taken = {port: {one.inode for one in listeners if one.port == port} for port in ports.values()}
    dead = [channel for channel in REQUIRED_CHANNELS if not taken[ports[channel]]]
    if dead:
        bound = {one.port for one in listeners if one.inode in own} - set(ports.values())
        instead = f"; {BOUND_INSTEAD} {_numbers(sorted(bound))}" if bound else ""
        numbers = _numbers(ports[channel] for channel in dead)
        return f"nothing listens on its {_listed(dead)} ({numbers}){instead}"
    # Where a proxy of another user listens for all of them, as for a container, none is its own.
    mine = {channel for channel in CHANNELS if taken[ports[channel]] & set(own)}
    strange = [channel for channel in REQUIRED_CHANNELS if mine and channel not in mine]
    if not strange:
        return ""
    numbers = _numbers(ports[channel] for channel in strange)
    return f"another program listens on its {_listed(strange)} ({numbers})"


def _listed(channels: list[str]) -> str:
    *others, last = channels
    if not others:
        return f"{last} channel"
    return f"{', '.join(others)} and {last} channels"


def _numbers(ports: Iterable[int]) -> str:
    return ", ".join(map(str, ports))


def attach_hint(name: str) -> str:
    """Say what to do about a kernel that no new client can attach to."""
    return (
        f"whoever is attached can save what is in its memory; kconnd-ctl restart {name} then gives "
        "it a fresh process"
    )
