"""Which connections a server takes: so many of each user, and never more than it has room for.

Rules. It is decided by the uid alone, before anything is read or looked up. A new descriptor
is always the lowest that is free (open(2)), so its number tells how many are taken, by whatever
it is. Some are kept from strangers, for the owner, for root and for what the server does
itself; some of those from every connection. Whatever is turned away, the log has a line a minute.
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
from kconnd.system.http.peer import Caller, Directory, read_peer

MAX_CONNECTIONS = 128  # of one user
FOR_OWNER = 256  # descriptors that no stranger's connection takes
FOR_WORK = 64  # descriptors that no connection takes
AT_ONCE = 64  # connections taken before others get a turn
PAUSE = 1.0  # seconds without accepting once no descriptor is left
ONCE = 60.0  # seconds between two lines of the log about the same

log = logging.getLogger("kconnd")


def highest_descriptor(limit: int, *, stranger: bool) -> int:
    """Give the highest number that a connection's descriptor may have; low limits are shared."""
    kept = min(FOR_OWNER, limit // 3) if stranger else min(FOR_WORK, limit // 6)
    return limit - kept - 1


class PeerStream(IOStream):
    """A connection that tells whether its client has sent more than was read."""

    def has_unread(self) -> bool:
        """Tell whether bytes have come that belong to no request yet."""
        if self._read_buffer_size or self.closed():
            return bool(self._read_buffer_size)
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:  # there is nothing, or the client has gone
            return False


class Server(tornado.httpserver.HTTPServer):
    """Takes connections, and knows the peer of each; made by `new_server`."""

    callers: "WeakKeyDictionary[PeerStream, Caller]"
    max_connections: int
    directory: Directory
    told: dict[object, float]
    listeners: list[socket.socket]

    def accept_from(self, listener: socket.socket) -> None:
        """Take connections from a listening socket, until `stop`."""
        listener.setblocking(False)  # noqa: FBT003  # its only way to say so
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)
        self.listeners.append(listener)

    def stop(self) -> None:
        """Take no more connections."""
        while self.listeners:
            listener = self.listeners.pop()
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        super().stop()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor or memory is left, and trying again costs
                self._tell("accept", "no connections are taken for %g s: %s", PAUSE, error)
                self._pause(listener)
                return
            if (caller := self._look_at(connection)) is None:
                connection.close()
                continue
            stream = PeerStream(connection, max_buffer_size=self.max_buffer_size)
            self.callers[stream] = caller
            self.handle_stream(stream, address)

    def _pause(self, listener: socket.socket) -> None:
        def go_on() -> None:
            if listener.fileno() >= 0:
                loop.add_reader(listener, self._accept, listener)

        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(PAUSE, go_on)

    def _look_at(self, connection: socket.socket) -> Caller | None:
        """Tell whose connection it is, or None where there is no room for it."""
        try:
            peer = read_peer(connection)
        except OSError:
            return None
        connected = sum(not s.closed() for s, c in self.callers.items() if c.peer.uid == peer.uid)
        if connected >= self.max_connections:
            self._tell(peer.uid, "uid %d has %d connections; closed another", peer.uid, connected)
            return None
        if connection.fileno() > self._highest(peer):
            self._tell(
                "full",
                "%d descriptors are used; closed a connection of uid %d",
                *(connection.fileno(), peer.uid),
            )
            return None
        return Caller(peer, self.directory)

    def _highest(self, peer: Peer) -> int:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return highest_descriptor(limit, stranger=peer.uid not in {0, os.geteuid()})

    def _tell(self, about: object, *line: Any) -> None:
        """Log it once a minute, however often it happens."""
        now = time.monotonic()
        if now - self.told.get(about, -math.inf) >= ONCE:
            self.told[about] = now
            log.warning(*line)


def new_server(
    delegate: HTTPServerConnectionDelegate,
    max_connections: int,
    directory: Directory,
    **bounds: float,
) -> Server:
    """Make a server.

    Parameters
    ----------
    delegate : HTTPServerConnectionDelegate
        Gets each request.
    max_connections : int
        How many each user may have at once.
    directory : Directory
        Tells who they are.
    bounds : float
        Sizes and times, as `tornado.httpserver.HTTPServer` takes them.
    """
    server = Server(delegate, **bounds)
    server.callers, server.told, server.listeners = WeakKeyDictionary(), {}, []
    server.max_connections, server.directory = max_connections, directory
    return server
