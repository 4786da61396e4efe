"""See who is connected to a kernel. Where that cannot be read, it says so with None."""

import os
import socket
import struct
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.protocol.socket_tables import (
    count_clients,
    parse_unix_diag,
    tcp_connections,
    unix_connections,
)
from kconnd.system.process.processes import sockets_of

NETLINK_SOCK_DIAG = 4
# struct nlmsghdr, then struct unix_diag_req of sock_diag(7): dump all that are established,
# with their names and peers.
_DUMP = struct.pack("=IHHII", 40, 20, 0x301, 1, 0) + struct.pack(
    "=BBHIIIII", socket.AF_UNIX, 0, 0, 1 << 1, 0, 1 | 4, 0xFFFFFFFF, 0xFFFFFFFF
)


def connected_clients(connection: ConnectionInfo, kernel_pid: int) -> int | None:
    """Count the clients of one kernel, as `Census` does."""
    return Census().clients(connection, kernel_pid)


class Census:
    """Counts the clients of kernels by one look at all sockets, once it is asked."""

    def clients(self, connection: ConnectionInfo, kernel_pid: int) -> int | None:
        """Count the clients of a kernel, the daemon itself not among them.

        Parameters
        ----------
        connection : ConnectionInfo
            Where the kernel listens.
        kernel_pid : int
            Its process, whose connections to itself do not count.

        Returns
        -------
        int or None
            The most clients that any one channel has; None where it cannot be read.
        """
        try:
            known = self._own | set(sockets_of(kernel_pid))
            if connection.transport == "ipc":
                found = unix_connections(self._unix, connection.socket_paths())
            else:
                found = tcp_connections(self._tcp, connection.ports)
            return count_clients(found, known)
        except (OSError, ValueError, IndexError, struct.error):
            return None

    @cached_property
    def _own(self) -> frozenset[int]:
        return frozenset(sockets_of(os.getpid()))

    @cached_property
    def _unix(self) -> list[Mapping[str, int | str]]:
        return list(_dump())

    @cached_property
    def _tcp(self) -> list[str]:
        net = Path("/proc/self/net")
        return [path.read_text(encoding="ascii") for path in (net / "tcp", net / "tcp6")]


def _dump() -> Iterator[Mapping[str, int | str]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(1.0)
        netlink.send(_DUMP)
        complete = False
        while not complete:
            found, complete = parse_unix_diag(netlink.recv(1 << 16))
            yield from found
