"""Count the clients that are connected to a kernel."""

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
from kconnd.system.process.resource_usage import sockets_of

NETLINK_SOCK_DIAG = 4
NETLINK_TIMEOUT_S = 1.0
# A struct nlmsghdr and a struct unix_diag_req of sock_diag(7). The reply to this request lists all
# established Unix sockets with their names and peers.
_DUMP_REQUEST = struct.pack("=IHHII", 40, 20, 0x301, 1, 0) + struct.pack(
    "=BBHIIIII", socket.AF_UNIX, 0, 0, 1 << 1, 0, 1 | 4, 0xFFFFFFFF, 0xFFFFFFFF
)


def connected_clients(connection: ConnectionInfo, kernel_pid: int) -> int | None:
    """Count the clients of one kernel, as `ClientCounter` does."""
    return ClientCounter().count(connection, kernel_pid)


class ClientCounter:
    """Counts the clients of several kernels, with one read of the socket tables."""

    def count(self, connection: ConnectionInfo, kernel_pid: int) -> int | None:
        """Count the clients of a kernel; connections of this process do not count.

        Parameters
        ----------
        connection : ConnectionInfo
            The kernel's addresses.
        kernel_pid : int
            The pid of the kernel. Connections of the kernel to itself do not count.

        Returns
        -------
        int or None
            The highest number of clients on any channel; None if the tables cannot be read, or if
            they do not contain the kernel's Unix sockets. The latter is so if a kernel in a
            container has its own network namespace, or sees its sockets at other paths. The daemon
            itself is connected to each live kernel, so a table without any connection is not
            complete.
        """
        try:
            excluded = self._own_sockets | set(sockets_of(kernel_pid))
            if connection.transport == "ipc":
                peers = list(unix_connections(self._unix_sockets, connection.socket_paths()))
                return count_clients(peers, excluded) if peers else None
            return count_clients(tcp_connections(self._tcp_tables, connection.ports), excluded)
        except (OSError, ValueError, IndexError, struct.error):
            return None

    @cached_property
    def _own_sockets(self) -> frozenset[int]:
        return frozenset(sockets_of(os.getpid()))

    @cached_property
    def _unix_sockets(self) -> list[Mapping[str, int | str]]:
        return list(_dump_unix_sockets())

    @cached_property
    def _tcp_tables(self) -> list[str]:
        net = Path("/proc/self/net")
        return [path.read_text(encoding="ascii") for path in (net / "tcp", net / "tcp6")]


def _dump_unix_sockets() -> Iterator[Mapping[str, int | str]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(NETLINK_TIMEOUT_S)
        netlink.send(_DUMP_REQUEST)
        is_complete = False
        while not is_complete:
            sockets, is_complete = parse_unix_diag(netlink.recv(1 << 16))
            yield from sockets
