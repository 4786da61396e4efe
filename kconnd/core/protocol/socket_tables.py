"""Counts the clients that are connected to a kernel, from the system's socket tables.

All functions are pure: they map the tables to a number. A `Connection` is the kernel's end of a
connection. Two kinds of connections do not count: connections of the daemon, and connections of a
kernel to itself. ipykernel, for example, connects to its own shell channel.

Sources: proc_pid_net(5) for ``/proc/net/tcp``; sock_diag(7) and ``linux/unix_diag.h`` for the
peers of Unix sockets, which no file in ``/proc`` contains.
"""

import struct
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

ESTABLISHED = 1
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_DIAG = struct.Struct("=BBBBI2I")  # struct unix_diag_msg
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr
_NAME, _PEER = 0, 2  # UNIX_DIAG_NAME, UNIX_DIAG_PEER
_DONE, _ERROR = 3, 2  # NLMSG_DONE, NLMSG_ERROR


@dataclass(frozen=True)
class Connection:
    """An established connection to a kernel.

    Parameters
    ----------
    endpoint : str
        The port, or the path, of the kernel's channel.
    peer : int
        The inode of the peer's socket; 0 if the peer is on another machine.
    """

    endpoint: str
    peer: int


def count_clients(connections: Iterable[Connection], own_inodes: Collection[int]) -> int:
    """Return the number of connections to the channel that has the most connections.

    Connections whose peer is in ``own_inodes`` are not counted. A sum over all channels would be
    too high, because one client can connect to several channels.
    """
    counts = Counter(link.endpoint for link in connections if link.peer not in own_inodes)
    return max(counts.values(), default=0)


def tcp_connections(tables: Iterable[str], ports: Sequence[int]) -> Iterator[Connection]:
    """Yield the established connections to these local ports, from ``/proc/net/tcp`` tables."""
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    live = [row for row in rows if int(row[3], 16) == ESTABLISHED]
    inodes = {row[1]: int(row[9]) for row in live}
    for row in live:
        port = int(row[1].rpartition(":")[2], 16)
        if port in ports:
            yield Connection(str(port), inodes.get(row[2], 0))


def unix_connections(
    sockets: Iterable[Mapping[str, int | str]], paths: Collection[str]
) -> Iterator[Connection]:
    """Yield the accepted connections to Unix sockets at these paths."""
    for socket in sockets:
        if socket["path"] in paths and socket["state"] == ESTABLISHED:
            yield Connection(str(socket["path"]), int(socket["peer"]))


def parse_unix_diag(reply: bytes) -> tuple[list[dict[str, int | str]], bool]:
    """Parse one datagram of a sock_diag dump.

    Returns
    -------
    tuple
        A list of sockets, each with state, path and peer; and whether the dump is complete.

    Raises
    ------
    OSError
        If the system refused the request.
    """
    sockets: list[dict[str, int | str]] = []
    while len(reply) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(reply)
        body = reply[_HEADER.size : length]
        reply = reply[max(_align(length), _HEADER.size) :]
        if kind == _DONE:
            return sockets, True
        if kind == _ERROR:
            raise OSError("the system refused sock_diag")
        sockets.append(_parse_socket(body))
    return sockets, False


def _parse_socket(body: bytes) -> dict[str, int | str]:
    state = _DIAG.unpack_from(body)[2]
    socket: dict[str, int | str] = {"state": state, "path": "", "peer": 0}
    attributes = body[_DIAG.size :]
    while len(attributes) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(attributes)
        value = attributes[_ATTRIBUTE.size : length]
        if kind == _NAME:
            socket["path"] = value.rstrip(b"\0").decode(errors="replace")
        elif kind == _PEER:
            socket["peer"] = int.from_bytes(value[:4], "little")
        attributes = attributes[max(_align(length), _ATTRIBUTE.size) :]
    return socket


def _align(length: int) -> int:
    return (length + 3) & ~3
