"""A connection over a Unix socket to the ZMQ socket of a kernel, without libzmq."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import TypeVar

from kconnd.core.protocol.zmtp import (
    GREETING,
    MAX_MESSAGE_BYTES,
    MessageReader,
    pack_message,
    pack_ready,
)

Reply = TypeVar("Reply")

MAX_REPLY_BYTES = 1 << 18  # the limit of a reply, which can contain a kernel's banner
CHUNK_BYTES = 1 << 14  # the size of one read; a chunk may contain thousands of messages
RETRY_DELAY_S, MAX_RETRY_DELAY_S = 0.004, 0.1  # used while the kernel is not listening yet
RETRY_FRACTION = 1 / 50  # the next delay as a fraction of the time waited so far, within the limits


class ZmtpConnection:
    """A non-blocking connection.

    Parameters
    ----------
    path : str
        The Unix socket of the peer.
    kind : str
        The socket type to announce: ``SUB`` or ``DEALER``.
    max_bytes : int
        The maximum size of a message; longer messages are dropped.

    Raises
    ------
    OSError
        If no peer listens on the path.
    """

    __slots__ = ("_reader", "_socket")

    def __init__(self, path: str, kind: str, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._reader = MessageReader(max_bytes)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(0)
            self._socket.connect(path)
            self._socket.send(GREETING + pack_ready(kind))
        except OSError:
            self._socket.close()
            raise

    @property
    def is_ready(self) -> bool:
        """Whether the peer has completed the handshake, so that messages may be sent."""
        return self._reader.ready

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._socket.fileno()

    def receive(self) -> list[list[bytes]] | None:
        """Read once, and return the messages that are complete; None if there is nothing to read.

        Raises
        ------
        OSError, ValueError
            If the peer has closed the connection or is not a ZMQ socket.
        """
        try:
            chunk = self._socket.recv(CHUNK_BYTES)
        except BlockingIOError:
            return None
        if not chunk:
            raise ConnectionResetError
        return self._reader.feed(chunk)

    def send(self, *frames: bytes) -> None:
        """Send a message, which has to fit into the socket's buffer.

        Raises
        ------
        OSError
            If the peer has closed the connection, or does not read.
        """
        self._socket.send(pack_message(*frames))

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


async def exchange(
    connection: ZmtpConnection,
    frames: Sequence[bytes],
    parse_reply: Callable[[list[bytes]], Reply | None],
) -> Reply:
    """Send a request after the handshake, and wait for a message that ``parse_reply`` accepts.

    Raises
    ------
    OSError, ValueError
        If the connection is lost or the peer is not a ZMQ socket.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Reply] = loop.create_future()

    def receive() -> None:
        was_ready = connection.is_ready
        try:
            for message in connection.receive() or ():
                reply = parse_reply(message)
                if reply is not None and not future.done():
                    future.set_result(reply)
            if connection.is_ready and not was_ready:
                connection.send(*frames)
        except Exception as error:  # noqa: BLE001  # the caller receives it
            if not future.done():
                future.set_exception(error)

    descriptor = connection.fileno()
    loop.add_reader(descriptor, receive)
    try:
        return await future
    finally:
        loop.remove_reader(descriptor)


async def request_reply(
    path: str, frames: Sequence[bytes], parse_reply: Callable[[list[bytes]], Reply | None]
) -> Reply:
    """Send a request over a new connection, and retry until there is a reply.

    Parameters
    ----------
    path : str
        The path of a Unix socket. The kernel need not listen on it yet.
    frames : sequence of bytes
        The request.
    parse_reply : callable
        A function that parses a message; it returns None if the message is not the reply to this
        request.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    while True:
        with contextlib.suppress(OSError, ValueError):
            connection = ZmtpConnection(path, "DEALER", MAX_REPLY_BYTES)
            try:
                return await exchange(connection, frames, parse_reply)
            finally:
                connection.close()
        waited_s = loop.time() - started
        delay_s = min(MAX_RETRY_DELAY_S, max(RETRY_DELAY_S, waited_s * RETRY_FRACTION))
        await asyncio.sleep(delay_s)  # there is no event for a kernel that begins to listen
