"""Listening to one kernel: what it says on iopub, and whether it answers heartbeats.

Rules. Nothing here waits for a heartbeat: it is sent, and its answer is looked for when the
next one is due. A connection that is lost is made again. To Unix sockets, as most kernels are
reached, `OverUnix` speaks itself, since a socket of libzmq takes 40 kB for as long as it is
kept; where there are addresses, IPv6 and encryption, libzmq does (`OverZmq`).
"""

import asyncio
import contextlib
import errno
from collections.abc import Callable
from typing import Protocol

import zmq
import zmq.asyncio

from kconnd.core.connection import ConnectionInfo
from kconnd.core.zmtp import SUBSCRIBE
from kconnd.system.link import Link, converse

AGAIN, AGAIN_MAX = 1.0, 30.0  # seconds until a lost connection is tried again, and the most
OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PING = (b"", b"kconnd")  # a kernel's REP needs the empty frame

Take = Callable[[list[bytes]], None]


class Listening(Protocol):
    """What both ways have in common."""

    async def listen(self, take: Take) -> None:
        """Hand on what the kernel says on iopub, for ever."""
        ...

    def beat(self) -> bool:
        """Send the next heartbeat, and tell whether the one before was answered."""
        ...

    def close(self) -> None:
        """Let go of the kernel."""
        ...


class OverUnix:
    """Listens on Unix sockets.

    Parameters
    ----------
    connection : ConnectionInfo
        Where the kernel is.
    """

    __slots__ = ("_connection", "_is_well", "_listener", "_pulse")

    def __init__(self, connection: ConnectionInfo) -> None:
        self._connection = connection
        self._listener: asyncio.Task[None] | None = None
        self._pulse: Link | None = None
        self._is_well = True  # as far as the last beat told

    async def listen(self, take: Take) -> None:
        """Hand on what the kernel says on iopub, for ever."""
        self._listener = asyncio.current_task()
        pause = AGAIN
        while True:
            with contextlib.suppress(OSError, ValueError):
                link = self._open("iopub", "SUB")
                pause = AGAIN
                try:
                    await converse(link, (SUBSCRIBE,), take)
                finally:
                    link.close()
            await asyncio.sleep(pause)
            pause = min(2 * pause, AGAIN_MAX)

    def beat(self) -> bool:
        """Send the next heartbeat, and tell whether the one before was answered.

        The first of a connection is to connect, and is answered where the other side greets. One
        that is lost is made again at once. Where we cannot connect for a lack of our own, nothing
        is known of the kernel, and so nothing is missed.
        """
        if self._pulse is not None:
            try:
                self._is_well = self._beat_again(self._pulse)
            except (OSError, ValueError):
                self._is_well = self._is_well and self._pulse.ready
                self._end_pulse()
        if self._pulse is None:
            try:
                self._pulse = self._open("hb", "DEALER")
            except OSError as error:
                self._is_well = error.errno in OURS
        return self._is_well

    def _beat_again(self, link: Link) -> bool:
        """Send no further one before one is answered: that would only fill a queue."""
        greeted = link.ready
        answered = bool(link.receive()) or link.ready is not greeted
        if answered:
            link.send(*PING)
        return answered

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
    iopub : zmq.asyncio.Socket
        A SUB, connected.
    pulse : zmq.Socket
        A DEALER, connected to the kernel's heartbeat.
    """

    __slots__ = ("_iopub", "_pulse", "_waiting")

    def __init__(self, iopub: zmq.asyncio.Socket, pulse: zmq.SyncSocket) -> None:
        self._iopub, self._pulse = iopub, pulse
        self._iopub.subscribe(b"")
        self._waiting = False

    async def listen(self, take: Take) -> None:
        """Hand on what the kernel says on iopub, for ever."""
        while True:
            take(await self._iopub.recv_multipart())

    def beat(self) -> bool:
        """Send the next heartbeat, and tell whether the one before was answered."""
        answered = not self._waiting
        with contextlib.suppress(zmq.Again):
            while self._pulse.recv_multipart(zmq.NOBLOCK):
                answered = True
        with contextlib.suppress(zmq.Again):  # its queue is full of unanswered ones
            self._pulse.send_multipart(PING, zmq.NOBLOCK)
        self._waiting = True
        return answered

    def close(self) -> None:
        """Let go of the kernel; what was not sent yet is dropped."""
        self._iopub.close(linger=0)
        self._pulse.close(linger=0)
