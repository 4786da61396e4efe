"""One connection to a Unix socket behind which there is a ZMQ socket, without libzmq."""

import socket

from kconnd.core.zmtp import GREETING, Reader, pack_message, pack_ready

CHUNK = 1 << 14  # bytes read at once, which may be thousands of messages


class Link:
    """A connection that never waits.

    Parameters
    ----------
    path : str
        Where the other side listens.
    kind : str
        What it is to take this for: ``SUB``, ``DEALER``.

    Raises
    ------
    OSError
        If nobody listens there.
    """

    __slots__ = ("_reader", "_socket")

    def __init__(self, path: str, kind: str) -> None:
        self._reader = Reader()
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

    def receive(self) -> list[list[bytes]]:
        """Give the messages that have come.

        Raises
        ------
        OSError, ValueError
            If the other side has hung up, or is no ZMQ socket.
        """
        try:
            data = self._socket.recv(CHUNK)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionResetError
        return self._reader.feed(data)

    def send(self, *frames: bytes) -> None:
        """Send a short message.

        Raises
        ------
        OSError
            If the other side has hung up, or reads nothing.
        """
        self._socket.send(pack_message(*frames))

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
