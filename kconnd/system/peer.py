"""Who is on the other end of a Unix socket, as the operating system says."""

import grp
import os
import pwd
import socket
import struct

from kconnd.core.access import Peer

_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


def read_peer(connection: socket.socket) -> Peer:
    """Read the peer's uid and pid (SO_PEERCRED), those at the time it connected, and its groups.

    Raises
    ------
    OSError
        If the socket has none; such a peer gets no answer.
    """
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    if uid == os.geteuid():
        return Peer(uid=uid, pid=pid)  # who may do anything needs no look-up
    return look_up(uid, pid)


def look_up(uid: int, pid: int) -> Peer:
    """Look a uid up in the system's database; one without an account has no name there."""
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return Peer(uid=uid, pid=pid)
    return Peer(uid, pid, user.pw_name, frozenset(_groups(user.pw_name, user.pw_gid)))


def _groups(user: str, primary: int) -> list[str]:
    """List a user's groups by name; one without a name cannot be granted anything."""
    found = []
    for gid in os.getgrouplist(user, primary):
        try:
            found.append(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return found
