"""One connection to a Unix socket behind which there is a ZMQ socket, without libzmq."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import TypeVar

from kconnd.core.protocol.zmtp import GREETING, LONGEST, Reader, pack_message, pack_ready

Answer = TypeVar("Answer")

REPLY = 1 << 18  # bytes that the reply to a request may have: a kernel's banner is in it
CHUNK = 1 << 14  # bytes read at once, which may be thousands of messages
AGAIN, AGAIN_MAX = 0.004, 0.1  # seconds until one that does not listen yet is tried again
PART = 1 / 50  # of how long it has been waited for, which is what a try may come late by


class Link:
    """A connection that never waits.

    Parameters
    ----------
    path : str
        Where the other side listens.
    kind : str
        What it is to take this for: ``SUB``, ``DEALER``.
    longest : int
        How many bytes a message may have; longer ones are not heard.

    Raises
    ------
    OSError
        If nobody listens there.
    """

    __slots__ = ("_reader", "_socket")

    def __init__(self, path: str, kind: str, longest: int = LONGEST) -> None:
        self._reader = Reader(longest)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(0)
            self._socket.connect(path)
            self._socket.send(GREETING + pack_ready(kind))
        except OSError:
            self._socket.close()
            raise

    @property
    def ready(self) -> bool:
        """Whether the other side has greeted, so that something may be sent."""
        return self._reader.ready

    def fileno(self) -> int:
        """Give what a selector watches."""
        return self._socket.fileno()

    def receive(self) -> list[list[bytes]] | None:
        """Give the messages that some bytes complete; None where no bytes have come.

        Raises
        ------
        OSError, ValueError
            If the other side has hung up, or is no ZMQ socket.
        """
        try:
            data = self._socket.recv(CHUNK)
        except BlockingIOError:
            return None
        if not data:
            raise ConnectionResetError
        return self._reader.feed(data)

    def send(self, *frames: bytes) -> None:
        """Send a message that the other side's buffer has room for.

        Raises
        ------
        OSError
            If the other side has hung up, or reads nothing.
        """
        self._socket.send(pack_message(*frames))

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


async def converse(
    link: Link, frames: Sequence[bytes], take: Callable[[list[bytes]], Answer | None]
) -> Answer:
    """Send a message once that can be, and hand on what comes until some of it is the answer.

    Raises
    ------
    OSError, ValueError
        If the connection is lost, or is to no ZMQ socket.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Answer] = loop.create_future()

    def receive() -> None:
        greeted = link.ready
        try:
            for message in link.receive() or ():
                answer = take(message)
                if answer is not None and not found.done():
                    found.set_result(answer)
            if link.ready and not greeted:
                link.send(*frames)
        except Exception as error:  # noqa: BLE001  # whatever it is, who awaits it gets it
            if not found.done():
                found.set_exception(error)

    number = link.fileno()
    loop.add_reader(number, receive)
    try:
        return await found
    finally:
        loop.remove_reader(number)


async def ask(
    path: str, frames: Sequence[bytes], take: Callable[[list[bytes]], Answer | None]
) -> Answer:
    """Send a request with a connection of its own, as often as that is lost before the answer.

    Parameters
    ----------
    path : str
        Where a kernel listens, or will: it is waited for.
    frames : sequence of bytes
        The request.
    take : callable
        Gives what a message comes to; None for one that is no answer to this request.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while True:
        with contextlib.suppress(OSError, ValueError):
            link = Link(path, "DEALER", REPLY)
            try:
                return await converse(link, frames, take)
            finally:
                link.close()
        pause = min(AGAIN_MAX, max(AGAIN, (loop.time() - begun) * PART))
        await asyncio.sleep(pause)  # nothing tells when it listens
