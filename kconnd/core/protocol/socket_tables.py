"""How many clients are connected to a kernel, from what the system tells of sockets.

Pure: tables in, number out. Each connection is seen from the kernel's side. What the daemon
itself holds open does not count, nor what a kernel holds to itself (ipykernel connects to its
own shell channel).

Sources: proc_pid_net(5) for ``/proc/net/tcp``; sock_diag(7) and ``linux/unix_diag.h`` for the
peers of Unix sockets, which no file tells.
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
    """One connection of a kernel: which end of it is whose.

    Parameters
    ----------
    endpoint : str
        The port, or the path, of the kernel's channel.
    peer : int
        The inode of the other socket; 0 where it is not on this machine.
    """

    endpoint: str
    peer: int


def count_clients(connections: Iterable[Connection], known: Collection[int]) -> int:
    """Count clients: the most connections that any one channel has to sockets not known."""
    counts = Counter(one.endpoint for one in connections if one.peer not in known)
    return max(counts.values(), default=0)


def tcp_connections(tables: Iterable[str], ports: Sequence[int]) -> Iterator[Connection]:
    """Find the established connections to these local ports in ``/proc/net/tcp`` tables."""
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
    """Find the accepted connections to these paths."""
    for one in sockets:
        if one["path"] in paths and one["state"] == ESTABLISHED:
            yield Connection(str(one["path"]), int(one["peer"]))


def parse_unix_diag(reply: bytes) -> tuple[list[dict[str, int | str]], bool]:
    """Read one datagram of a sock_diag dump.

    Returns
    -------
    tuple
        Sockets as state, path and peer, and whether the dump is complete.

    Raises
    ------
    OSError
        If the system refused.
    """
    found: list[dict[str, int | str]] = []
    while len(reply) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(reply)
        body = reply[_HEADER.size : length]
        reply = reply[max(_aligned(length), _HEADER.size) :]
        if kind == _DONE:
            return found, True
        if kind == _ERROR:
            raise OSError("sock_diag was refused")
        found.append(_parse_socket(body))
    return found, False


def _parse_socket(body: bytes) -> dict[str, int | str]:
    state = _DIAG.unpack_from(body)[2]
    socket: dict[str, int | str] = {"state": state, "path": "", "peer": 0}
    rest = body[_DIAG.size :]
    while len(rest) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(rest)
        value = rest[_ATTRIBUTE.size : length]
        if kind == _NAME:
            socket["path"] = value.rstrip(b"\0").decode(errors="replace")
        elif kind == _PEER:
            socket["peer"] = int.from_bytes(value[:4], "little")
        rest = rest[max(_aligned(length), _ATTRIBUTE.size) :]
    return socket


def _aligned(length: int) -> int:
    return (length + 3) & ~3
