"""Listen to one kernel: its messages on iopub, and its replies to heartbeats.

Rules. The event loop never waits for the reply to a heartbeat; the reply is read when the next
heartbeat is due. A lost connection is re-established. Most kernels use Unix sockets, and an open
socket of libzmq takes 40 kB. `UnixListener` therefore speaks ZMTP on Unix sockets without libzmq.
`ZmqListener` uses libzmq, for TCP, IPv6 and encryption.

A kernel can publish faster than the daemon can read, so `kconnd.system.channels.flow_control`
limits the time that the daemon spends on reading. The daemon's receive buffers are small, so that
messages are recent when they are read. The kernel's own socket queues up to 1000 messages and drops
further messages.
"""

import asyncio
import contextlib
import errno
from collections.abc import Callable
from typing import Protocol

import zmq

from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.protocol.zmtp import SUBSCRIBE
from kconnd.system.channels.flow_control import ReadBudget, ReadTurns, ThrottledReader
from kconnd.system.channels.zmtp_socket import ZmtpConnection

RECONNECT_DELAY_S, MAX_RECONNECT_DELAY_S = 1.0, 30.0
OWN_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PING = (b"", b"kconnd")  # a kernel's REP socket needs the empty frame
READ_AHEAD_MESSAGES = 32  # the number of messages that libzmq buffers
RECEIVE_BUFFER_BYTES = 1 << 16  # the socket's buffer; the system's default is some megabytes
# The limit of an iopub message; libzmq closes the connection if a frame is longer.
MAX_FRAME_BYTES = 1 << 24
MAX_PING_BYTES = 1 << 10
MAX_PING_REPLIES = 100  # the number of replies to read per heartbeat

OnMessage = Callable[[list[bytes]], None]
OnLoss = Callable[[], None]


class KernelListener(Protocol):
    """The interface of `UnixListener` and `ZmqListener`."""

    @property
    def heard_at(self) -> float:
        """The monotonic time, in seconds, of the last message on iopub; 0 if none is known."""
        ...

    async def listen(self, on_message: OnMessage, on_loss: OnLoss) -> None:
        """Pass each iopub message to a callback, and report possible losses; never return."""
        ...

    def send_heartbeat(self) -> bool | None:
        """Send the next heartbeat, and return whether the previous heartbeat was answered.

        Return None if there was no previous heartbeat, or if it is unknown whether it was answered.
        """
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class _End:
    """A future by which an exception of a reader ends `listen`."""

    def __init__(self) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class UnixListener:
    """Listens on Unix sockets.

    Parameters
    ----------
    connection : ConnectionInfo
        The kernel's addresses.
    budget : ReadBudget
        The daemon's budget for kernels that publish too fast.
    """

    __slots__ = ("_budget", "_connection", "_heartbeat", "_reader", "_task")

    def __init__(self, connection: ConnectionInfo, budget: ReadBudget) -> None:
        self._connection, self._budget = connection, budget
        self._task: asyncio.Task[None] | None = None
        self._reader: ThrottledReader | None = None
        self._heartbeat: ZmtpConnection | None = None

    @property
    def heard_at(self) -> float:
        """The monotonic time, in seconds, of the last message on iopub; 0 if none is known."""
        return self._reader.heard_at if self._reader else 0.0

    async def listen(self, on_message: OnMessage, on_loss: OnLoss) -> None:
        """Pass each iopub message to a callback, and report possible losses; never return."""
        self._task = asyncio.current_task()
        delay_s = RECONNECT_DELAY_S
        while True:
            with contextlib.suppress(OSError, ValueError):
                connection = self._open("iopub", "SUB")
                delay_s = RECONNECT_DELAY_S
                try:
                    await self._read(connection, on_message, on_loss)
                finally:
                    connection.close()
                    on_loss()
            await asyncio.sleep(delay_s)  # there is no event for a kernel that listens again
            delay_s = min(2 * delay_s, MAX_RECONNECT_DELAY_S)

    async def _read(
        self, connection: ZmtpConnection, on_message: OnMessage, on_loss: OnLoss
    ) -> None:
        """Read messages until the connection is lost, then raise the error of the connection."""
        end = _End()

        def receive() -> int | None:
            was_ready = connection.is_ready
            messages = connection.receive()
            for message in messages or ():
                on_message(message)
            if connection.is_ready and not was_ready:
                connection.send(SUBSCRIBE)
            return None if messages is None else len(messages)

        self._reader = ThrottledReader(self._budget, receive, on_loss)
        turns = ReadTurns(connection.fileno(), self._reader, end.fail)
        try:
            await end.future
        finally:
            turns.close()

    def send_heartbeat(self) -> bool | None:
        """Send the next heartbeat, and return whether the previous heartbeat was answered.

        The first call, and a call after a loss of the connection, open a new connection and send
        nothing. Return None if it is unknown whether the previous heartbeat was answered, for
        example because the daemon has no free file descriptors.
        """
        was_answered: bool | None = None
        if self._heartbeat is not None:
            try:
                return self._send_next(self._heartbeat)
            except (OSError, ValueError):
                was_answered = None if self._heartbeat.is_ready else False
                self._close_heartbeat()
        try:
            self._heartbeat = self._open("hb", "DEALER")
        except OSError as error:
            return was_answered if error.errno in OWN_SHORTAGES else False
        return was_answered

    def _send_next(self, connection: ZmtpConnection) -> bool | None:
        """Send the first heartbeat, or the next heartbeat if the previous heartbeat was answered.

        Further heartbeats to a kernel that does not answer would fill a queue.
        """
        was_ready = connection.is_ready
        was_answered = bool(connection.receive())
        is_first = connection.is_ready is not was_ready
        if was_answered or is_first:
            connection.send(*PING)
        return None if is_first else was_answered

    def _close_heartbeat(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.close()
            self._heartbeat = None

    def close(self) -> None:
        """Close the connections."""
        if self._task is not None:
            self._task.cancel()  # the cancelled task closes the connection to iopub
        self._close_heartbeat()

    def _open(self, channel: str, kind: str) -> ZmtpConnection:
        return ZmtpConnection(self._connection.url(channel).removeprefix("ipc://"), kind)


class ZmqListener:
    """Listens with libzmq.

    Parameters
    ----------
    iopub : zmq.Socket
        A SUB socket that is not connected yet.
    heartbeat : zmq.Socket
        A DEALER socket that is not connected yet.
    connect : callable
        A function that connects a socket to a channel.
    budget : ReadBudget
        The daemon's budget for kernels that publish too fast.
    """

    __slots__ = (
        "_budget",
        "_connect",
        "_has_sent",
        "_heartbeat",
        "_iopub",
        "_monitor",
        "_reader",
        "_turns",
    )

    def __init__(
        self,
        iopub: zmq.SyncSocket,
        heartbeat: zmq.SyncSocket,
        connect: Callable[[zmq.SyncSocket, str], None],
        budget: ReadBudget,
    ) -> None:
        self._iopub, self._heartbeat, self._connect = iopub, heartbeat, connect
        self._budget = budget
        self._reader: ThrottledReader | None = None
        self._turns: list[ReadTurns] = []
        iopub.rcvhwm = READ_AHEAD_MESSAGES
        iopub.rcvbuf = RECEIVE_BUFFER_BYTES
        iopub.maxmsgsize = MAX_FRAME_BYTES
        heartbeat.maxmsgsize = MAX_PING_BYTES
        self._monitor = iopub.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        connect(iopub, "iopub")
        connect(heartbeat, "hb")
        iopub.subscribe(b"")
        self._has_sent = False

    @property
    def heard_at(self) -> float:
        """The monotonic time, in seconds, of the last message on iopub; 0 if none is known."""
        return self._reader.heard_at if self._reader else 0.0

    async def listen(self, on_message: OnMessage, on_loss: OnLoss) -> None:
        """Pass each iopub message to a callback, and report possible losses; never return."""
        end = _End()

        def receive() -> int | None:
            try:
                on_message(self._iopub.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return None
            return 1

        def reconnect() -> int | None:
            try:
                self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return None
            self._reconnect()
            on_loss()
            return 1

        self._reader = ThrottledReader(self._budget, receive, on_loss)
        monitor_reader = ThrottledReader(ReadBudget(), reconnect, on_loss)
        self._turns = [
            ReadTurns(_descriptor_of(self._iopub), self._reader, end.fail),
            ReadTurns(_descriptor_of(self._monitor), monitor_reader, end.fail),
        ]
        try:
            await end.future
        finally:
            self._end_turns()

    def _reconnect(self) -> None:
        """Connect again; libzmq 4.3.5 does not reconnect after a message that is too long."""
        with contextlib.suppress(zmq.ZMQError):  # libzmq has already closed the connection
            self._iopub.disconnect(str(self._iopub.get_string(zmq.LAST_ENDPOINT)).rstrip("\0"))
        self._connect(self._iopub, "iopub")

    def _end_turns(self) -> None:
        for turns in self._turns:
            turns.close()
        self._turns = []

    def send_heartbeat(self) -> bool | None:
        """Send the next heartbeat, and return whether the previous heartbeat was answered."""
        was_answered = False if self._has_sent else None
        with contextlib.suppress(zmq.Again):
            for _ in range(MAX_PING_REPLIES):
                self._heartbeat.recv_multipart(zmq.NOBLOCK)
                was_answered = True
        with contextlib.suppress(zmq.Again):  # the queue is full of unanswered heartbeats
            self._heartbeat.send_multipart(PING, zmq.NOBLOCK)
        self._has_sent = True
        return was_answered

    def close(self) -> None:
        """Close the sockets; unsent messages are dropped."""
        self._end_turns()
        self._iopub.disable_monitor()
        self._monitor.close(linger=0)
        self._iopub.close(linger=0)
        self._heartbeat.close(linger=0)


def _descriptor_of(socket: zmq.SyncSocket) -> int:
    """Return the file descriptor that becomes readable when a socket has events."""
    return int(socket.get(zmq.FD))
