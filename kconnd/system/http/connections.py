"""Accept connections, up to a limit for each user and a limit of file descriptors.

Rules. A connection is accepted or closed before anything is read from it or looked up; the decision
depends on the peer's uid. A new descriptor always has the lowest free number (open(2)), so this
number shows how many descriptors are in use. Some descriptors are reserved for connections of the
owner and root, and some for the server's own work. The log has at most one line a minute about each
kind of rejection.
"""

import asyncio
import logging
import math
import os
import resource
import socket
import time
from typing import Any
from weakref import WeakKeyDictionary

import tornado.httpserver
from tornado.httputil import HTTPServerConnectionDelegate
from tornado.iostream import IOStream

from kconnd.core.access import Peer
from kconnd.system.http.peer import Caller, UserDirectory, read_peer

MAX_CONNECTIONS = 128  # the maximum per user
OWNER_DESCRIPTORS = 256  # reserved for connections of the owner and root
WORK_DESCRIPTORS = 64  # reserved for the server's own work
MAX_ACCEPTS = 64  # the maximum per turn of the event loop
ACCEPT_PAUSE_S = 1.0  # the wait after accept(2) has failed
LOG_INTERVAL_S = 60.0  # the time between two log lines about a subject

log = logging.getLogger("kconnd")


def highest_descriptor(limit: int, *, stranger: bool) -> int:
    """Return the highest descriptor number that a connection may have.

    ``limit`` is the process's limit of open files. If this limit is low, the number of reserved
    descriptors is a fraction of the limit. ``stranger`` is true for a peer other than the owner and
    root.
    """
    owner_reserve = min(OWNER_DESCRIPTORS, limit // 3)
    work_reserve = min(WORK_DESCRIPTORS, limit // 6)
    return limit - (owner_reserve if stranger else work_reserve) - 1


class PeerStream(IOStream):
    """A connection that can check whether it has unread input."""

    def has_unread(self) -> bool:
        """Check whether the client has sent bytes that the server has not parsed yet."""
        if self._read_buffer_size or self.closed():
            return bool(self._read_buffer_size)
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:  # there is no input, or the client has closed the connection
            return False


class ConnectionServer(tornado.httpserver.HTTPServer):
    """Accepts connections and stores the peer of each; `new_server` creates an instance."""

    callers: "WeakKeyDictionary[PeerStream, Caller]"
    max_connections: int
    directory: UserDirectory
    logged_at: dict[object, float]
    listeners: list[socket.socket]

    def accept_from(self, listener: socket.socket) -> None:
        """Accept connections from a listening socket, until `stop`."""
        listener.setblocking(False)  # noqa: FBT003  # a positional-only parameter
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)
        self.listeners.append(listener)

    def stop(self) -> None:
        """Accept no more connections."""
        while self.listeners:
            listener = self.listeners.pop()
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        super().stop()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(MAX_ACCEPTS):
            try:
                connection, address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # without descriptors or memory, an immediate retry would loop
                text = "accepting connections failed; trying again in %g s: %s"
                self._log_seldom("accept", text, ACCEPT_PAUSE_S, error)
                self._pause(listener)
                return
            if (caller := self._admit(connection)) is None:
                connection.close()
                continue
            stream = PeerStream(connection, max_buffer_size=self.max_buffer_size)
            self.callers[stream] = caller
            self.handle_stream(stream, address)

    def _pause(self, listener: socket.socket) -> None:
        def resume() -> None:
            if listener.fileno() >= 0:
                loop.add_reader(listener, self._accept, listener)

        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(ACCEPT_PAUSE_S, resume)

    def _admit(self, connection: socket.socket) -> Caller | None:
        """Return the caller of a new connection; None if a limit is reached."""
        try:
            peer = read_peer(connection)
        except OSError:
            return None
        count = sum(
            not stream.closed()
            for stream, caller in self.callers.items()
            if caller.peer.uid == peer.uid
        )
        if count >= self.max_connections:
            text = "uid %d has %d connections; closed another one"
            self._log_seldom(peer.uid, text, peer.uid, count)
            return None
        if connection.fileno() > self._highest_descriptor(peer):
            text = "%d file descriptors are in use; closed a connection of uid %d"
            self._log_seldom("full", text, connection.fileno(), peer.uid)
            return None
        return Caller(peer, self.directory)

    def _highest_descriptor(self, peer: Peer) -> int:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return highest_descriptor(limit, stranger=peer.uid not in {0, os.geteuid()})

    def _log_seldom(self, subject: object, *line: Any) -> None:
        """Log a warning at most once per interval and subject."""
        now = time.monotonic()
        if now - self.logged_at.get(subject, -math.inf) >= LOG_INTERVAL_S:
            self.logged_at[subject] = now
            log.warning(*line)


def new_server(
    delegate: HTTPServerConnectionDelegate,
    max_connections: int,
    directory: UserDirectory,
    **limits: float,
) -> ConnectionServer:
    """Create a server.

    Parameters
    ----------
    delegate : HTTPServerConnectionDelegate
        Receives each request.
    max_connections : int
        The maximum number of connections per user.
    directory : UserDirectory
        Looks up the peers.
    limits : float
        Limits of size and time, as `tornado.httpserver.HTTPServer` takes them.
    """
    server = ConnectionServer(delegate, **limits)
    server.callers, server.logged_at, server.listeners = WeakKeyDictionary(), {}, []
    server.max_connections, server.directory = max_connections, directory
    return server
