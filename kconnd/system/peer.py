"""Who is on the other end of a Unix socket, as the operating system says."""

import socket
import struct

from kconnd.core.access import Peer

_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


def read_peer(connection: socket.socket) -> Peer:
    """Read the peer's uid and pid (SO_PEERCRED): those at the time it connected.

    Raises
    ------
    OSError
        If the socket has none; such a peer gets no answer.
    """
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return Peer(uid=uid, pid=pid)
