"""Connects to a daemon's Unix socket, and checks the server before anything is sent.

This module imports `_socket`, the part of `socket` that is written in C, because importing `socket`
itself takes ten milliseconds.
"""

from __future__ import annotations

import _socket
import io
import os
import sys
import time

from kconnd.errors import KconndError, RefusedError, UnreachableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO, Self

    from _typeshed import WriteableBuffer

CONNECT_LIMIT_S = 60.0  # the longest wait for room in the queue of another owner's daemon
MIN_TIMEOUT_S = 0.001  # a timeout of zero would make the socket non-blocking
UCRED_BYTES = 12  # struct ucred contains pid, uid and gid, four bytes each
DOCTOR_HINT = "; kconnd-ctl doctor looks for what is wrong"  # the doctor itself leaves it out
HINT = f"kconnd-ctl start NAME starts one{DOCTOR_HINT}"


class UnixConnection(_socket.socket):
    """A connected Unix socket with the methods of `socket.socket` that a request needs."""

    owner = -1  # the uid of the daemon's owner, once the server is checked
    deadline: float | None = None  # for the whole reply, in monotonic seconds

    def __init__(self) -> None:
        super().__init__(_socket.AF_UNIX, _socket.SOCK_STREAM)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def limit_connecting(self, seconds: float) -> None:
        """Limit how long connecting waits for a listener whose queue is full (unix(7)).

        Linux applies the timeout for sending (SO_SNDTIMEO) to this wait. Python's own timeout would
        make the socket non-blocking, and connecting a non-blocking socket does not wait at all.
        """
        from struct import pack  # noqa: PLC0415  # for another owner's daemon only

        whole, fraction = divmod(seconds, 1)
        timeval = pack("ll", int(whole), int(fraction * 1_000_000))
        self.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, timeval)

    def reader(self) -> BinaryIO:
        """Return a buffered file that reads from the connection."""
        return io.BufferedReader(_RawReader(self))


class _RawReader(io.RawIOBase):
    """Reads from a connection, until the connection's deadline."""

    def __init__(self, connection: UnixConnection) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self._connection.deadline is not None:
            remaining = self._connection.deadline - time.monotonic()
            self._connection.settimeout(max(remaining, MIN_TIMEOUT_S))
        return self._connection.recv_into(buffer)


def open_connection(path: str, owner: int, limit_s: float) -> UnixConnection:
    """Connect to an owner's daemon, and check that the owner, the caller or root listens.

    ``limit_s`` limits how long the connection to another owner's daemon may take.

    Raises
    ------
    UnreachableError
        If no process listens.
    RefusedError
        If another user listens.
    UsageError
        If the path is too long for a socket.
    """
    connection = UnixConnection()
    try:
        if is_foreign(owner):
            connection.limit_connecting(limit_s)
        connection.connect(path)
        connection.owner = _checked_owner(connection, path, owner)
    except OSError as error:
        connection.close()
        _check_length(path)
        reason = error.strerror or error
        raise UnreachableError(f"no kconnd daemon answers on {path}: {reason}", hint=HINT) from None
    except KconndError:
        connection.close()
        raise
    return connection


def _check_length(path: str) -> None:
    from kconnd.core.launch.kernel_files import check_socket_path  # noqa: PLC0415  # for an error

    check_socket_path(path, "name a shorter one with --socket or KCONND_SOCKET")


def listens(path: str) -> bool:
    """Return whether a process accepts connections on a socket."""
    with UnixConnection() as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


def is_foreign(owner: int) -> bool:
    """Return whether an owner is not the caller; replies of other owners' daemons are untrusted."""
    return owner != os.geteuid()


def _checked_owner(connection: UnixConnection, path: str, owner: int) -> int:
    """Return the uid of the daemon's owner; refuse a server that another user started.

    The operating system reports the uid of the listening process (SO_PEERCRED, unix(7)). For a
    socket that systemd created for an owner's daemon, the reported uid is 0, and the path of the
    socket identifies the owner.
    """
    ucred = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, UCRED_BYTES)
    uid = int.from_bytes(ucred[4:8], sys.byteorder)
    if uid == 0:
        return _owner_by_name(connection.getpeername(), owner)
    if uid not in {os.geteuid(), owner}:
        raise RefusedError(
            f"what listens on {path} belongs to uid {uid}, so nothing was sent to it",
            hint="name the right socket with --socket or KCONND_SOCKET",
        )
    return owner


def _owner_by_name(path: str | bytes, default: int) -> int:
    """Return the uid in the path of a socket that systemd created; ``default`` for other paths."""
    from kconnd.core.paths import OWNER_SOCKETS_DIR  # noqa: PLC0415  # most daemons are the caller's

    folder, _, name = os.fsdecode(path).rpartition("/")
    return int(name) if folder == OWNER_SOCKETS_DIR and name.isdecimal() else default
