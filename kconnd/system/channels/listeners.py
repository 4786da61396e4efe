"""Listening to one kernel: what it says on iopub, and whether it answers heartbeats.

Rules. Nothing here waits for a heartbeat: it is sent, and its answer is looked for when the
next one is due. A connection that is lost is made again. To Unix sockets, as most kernels are
reached, `OverUnix` speaks itself, since a socket of libzmq takes 40 kB for as long as it is
kept; where there are addresses, IPv6 and encryption, libzmq does (`OverZmq`).

A kernel can publish faster than a daemon that has others, too, can read.
`kconnd.system.channels.flow_control` bounds the reading, and little is buffered on the way, so that
what is read is never old: the kernel's own socket holds 1000 messages, and drops what is more.
"""

import asyncio
import contextlib
import errno
from collections.abc import Callable
from typing import Protocol

import zmq

from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.protocol.zmtp import SUBSCRIBE
from kconnd.system.channels.flow_control import Crowd, Flow, Turns
from kconnd.system.channels.zmtp_socket import Link

AGAIN, AGAIN_MAX = 1.0, 30.0  # seconds until a lost connection is tried again, and the most
OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PING = (b"", b"kconnd")  # a kernel's REP needs the empty frame
BUFFERED_MESSAGES = 32  # that libzmq reads ahead of us
BUFFERED_BYTES = 1 << 16  # that the system does, which would be some megabytes
MAX_FRAME_BYTES = 1 << 24  # of a message on iopub; for a longer one libzmq connects anew
MAX_PING_BYTES = 1 << 10
MAX_ANSWERS = 100  # that are read at once of those that came since the last heartbeat

Take = Callable[[list[bytes]], None]
Lost = Callable[[], None]


class Listening(Protocol):
    """What both ways have in common."""

    @property
    def heard_at(self) -> float:
        """When anything was published last, in monotonic seconds."""
        ...

    async def listen(self, take: Take, lost: Lost) -> None:
        """Hand on what the kernel says on iopub, and when some of it may be lost, for ever."""
        ...

    def beat(self) -> bool | None:
        """Send the next heartbeat, and tell whether the one before was answered.

        None where there was none, or nothing can be told of it.
        """
        ...

    def close(self) -> None:
        """Let go of the kernel."""
        ...


class _Over:
    """The end of a listening, by what was raised in it."""

    def __init__(self) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class OverUnix:
    """Listens on Unix sockets.

    Parameters
    ----------
    connection : ConnectionInfo
        Where the kernel is.
    crowd : Crowd
        The kernels of this daemon that publish too fast.
    """

    __slots__ = ("_connection", "_crowd", "_flow", "_listener", "_pulse")

    def __init__(self, connection: ConnectionInfo, crowd: Crowd) -> None:
        self._connection, self._crowd = connection, crowd
        self._listener: asyncio.Task[None] | None = None
        self._flow: Flow | None = None
        self._pulse: Link | None = None

    @property
    def heard_at(self) -> float:
        """When anything was published last, in monotonic seconds."""
        return self._flow.heard_at if self._flow else 0.0

    async def listen(self, take: Take, lost: Lost) -> None:
        """Hand on what the kernel says on iopub, and when some of it may be lost, for ever."""
        self._listener = asyncio.current_task()
        pause = AGAIN
        while True:
            with contextlib.suppress(OSError, ValueError):
                link = self._open("iopub", "SUB")
                pause = AGAIN
                try:
                    await self._hear(link, take, lost)
                finally:
                    link.close()
                    lost()
            await asyncio.sleep(pause)  # nothing tells when it listens again
            pause = min(2 * pause, AGAIN_MAX)

    async def _hear(self, link: Link, take: Take, lost: Lost) -> None:
        """Hand on what comes until the connection is lost, which is then raised."""
        over = _Over()

        def receive() -> int | None:
            greeted = link.ready
            messages = link.receive()
            for message in messages or ():
                take(message)
            if link.ready and not greeted:
                link.send(SUBSCRIBE)
            return None if messages is None else len(messages)

        self._flow = Flow(self._crowd, receive, lost)
        turns = Turns(link.fileno(), self._flow, over.fail)
        try:
            await over.future
        finally:
            turns.close()

    def beat(self) -> bool | None:
        """Send the next heartbeat, and tell whether the one before was answered.

        The first of a connection only connects. One that is lost is made again at once. Where we
        cannot connect for a lack of our own, nothing is known of the kernel.
        """
        answered: bool | None = None
        if self._pulse is not None:
            try:
                return self._beat_again(self._pulse)
            except (OSError, ValueError):
                answered = None if self._pulse.ready else False
                self._end_pulse()
        try:
            self._pulse = self._open("hb", "DEALER")
        except OSError as error:
            return answered if error.errno in OURS else False
        return answered

    def _beat_again(self, link: Link) -> bool | None:
        """Send no further one before one is answered: that would only fill a queue."""
        greeted = link.ready
        answered = bool(link.receive())
        if answered or link.ready is not greeted:
            link.send(*PING)
        return None if link.ready is not greeted else answered

    def _end_pulse(self) -> None:
        if self._pulse is not None:
            self._pulse.close()
            self._pulse = None

    def close(self) -> None:
        """Let go of the kernel."""
        if self._listener is not None:
            self._listener.cancel()  # which hangs up
        self._end_pulse()

    def _open(self, channel: str, kind: str) -> Link:
        return Link(self._connection.url(channel).removeprefix("ipc://"), kind)


class OverZmq:
    """Listens by libzmq.

    Parameters
    ----------
    iopub : zmq.Socket
        A SUB that is not connected yet.
    pulse : zmq.Socket
        A DEALER, likewise, for the kernel's heartbeat.
    connect : callable
        Connects a socket to a channel.
    crowd : Crowd
        The kernels of this daemon that publish too fast.
    """

    __slots__ = (
        "_connect",
        "_crowd",
        "_flow",
        "_iopub",
        "_monitor",
        "_pulse",
        "_turns",
        "_waiting",
    )

    def __init__(
        self,
        iopub: zmq.SyncSocket,
        pulse: zmq.SyncSocket,
        connect: Callable[[zmq.SyncSocket, str], None],
        crowd: Crowd,
    ) -> None:
        self._iopub, self._pulse, self._crowd, self._connect = iopub, pulse, crowd, connect
        self._flow: Flow | None = None
        self._turns: list[Turns] = []
        iopub.rcvhwm, iopub.rcvbuf, iopub.maxmsgsize = (
            BUFFERED_MESSAGES,
            BUFFERED_BYTES,
            MAX_FRAME_BYTES,
        )
        pulse.maxmsgsize = MAX_PING_BYTES
        self._monitor = iopub.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        connect(iopub, "iopub")
        connect(pulse, "hb")
        iopub.subscribe(b"")
        self._waiting = False

    @property
    def heard_at(self) -> float:
        """When anything was published last, in monotonic seconds."""
        return self._flow.heard_at if self._flow else 0.0

    async def listen(self, take: Take, lost: Lost) -> None:
        """Hand on what the kernel says on iopub, and when some of it may be lost, for ever."""
        over = _Over()

        def receive() -> int | None:
            try:
                take(self._iopub.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return None
            return 1

        def connect_again() -> int | None:
            try:
                self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return None
            self._connect_again()
            lost()
            return 1

        self._flow = Flow(self._crowd, receive, lost)
        self._turns = [
            Turns(_number_of(self._iopub), self._flow, over.fail),
            Turns(_number_of(self._monitor), Flow(Crowd(), connect_again, lost), over.fail),
        ]
        try:
            await over.future
        finally:
            self._end_turns()

    def _connect_again(self) -> None:
        """Connect anew: after a message that is too long libzmq does not (4.3.5)."""
        with contextlib.suppress(zmq.ZMQError):  # it has no connection by that name any more
            self._iopub.disconnect(str(self._iopub.get_string(zmq.LAST_ENDPOINT)).rstrip("\0"))
        self._connect(self._iopub, "iopub")

    def _end_turns(self) -> None:
        for turns in self._turns:
            turns.close()
        self._turns = []

    def beat(self) -> bool | None:
        """Send the next heartbeat, and tell whether the one before was answered."""
        answered = False if self._waiting else None
        with contextlib.suppress(zmq.Again):
            for _ in range(MAX_ANSWERS):
                self._pulse.recv_multipart(zmq.NOBLOCK)
                answered = True
        with contextlib.suppress(zmq.Again):  # its queue is full of unanswered ones
            self._pulse.send_multipart(PING, zmq.NOBLOCK)
        self._waiting = True
        return answered

    def close(self) -> None:
        """Let go of the kernel; what was not sent yet is dropped."""
        self._end_turns()
        self._iopub.disable_monitor()
        self._monitor.close(linger=0)
        self._iopub.close(linger=0)
        self._pulse.close(linger=0)


def _number_of(socket: zmq.SyncSocket) -> int:
    """Give the descriptor that tells of a socket's news."""
    return int(socket.get(zmq.FD))
