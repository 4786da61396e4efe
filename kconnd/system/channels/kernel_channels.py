"""The daemon's own connection to one kernel: probe, control requests, status and heartbeat.

Rules. What a kernel says is believed only if it is signed with its key, and then only as far
as state goes: no content of it is kept. Our requests make a kernel say busy and idle too, so
their ids are kept, and a status that has one of them as its parent does not count. What is kept
open of a kernel is in `kconnd.system.channels.listeners`; a request has a socket of its own.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import zmq
import zmq.asyncio

from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.protocol.jupyter_messages import (
    Message,
    Signer,
    may_be,
    pack_request,
    parse_message,
)
from kconnd.system.channels.flow_control import Crowd
from kconnd.system.channels.listeners import Listening, OverUnix, OverZmq
from kconnd.system.channels.zmtp_socket import REPLY, ask

# Milliseconds between tries while a kernel has not bound its sockets yet. libzmq doubles the
# first up to the second, so a second that is large makes a start seem that much longer.
RECONNECT, RECONNECT_MAX = 4, 8
STATES = frozenset({"busy", "idle"})  # those of a request; a kernel also says that it starts
OWN_REQUESTS = 256  # of which a status may still come
MAX_SUBSHELLS = 100
MAX_ID_CHARACTERS = 200  # of a request or a subshell; longer ones are cut
MAX_REPLY_BYTES = REPLY  # what is longer takes longer to read than a turn of the loop may
MAX_EXECUTION_BYTES = 4 << 20  # of the reply that lists what a warm kernel has read
MAX_REPLY_FRAMES = 64  # a reply has six, and identities and buffers
MAX_SOCKETS = 65536
DELIVERY = 5000  # milliseconds in which what was sent is delivered, after its socket is closed

StatusSeen = Callable[[str, bool], None]


def new_context() -> zmq.asyncio.Context:
    """Make the daemon's ZMQ context; libzmq's default would do for 200 kernels only."""
    context = zmq.asyncio.Context()
    context.set(zmq.MAX_SOCKETS, MAX_SOCKETS)
    return context


class KernelChannels:
    """Sockets to one kernel's channels; close it to let go of the kernel.

    Parameters
    ----------
    context : zmq.asyncio.Context
        The daemon's.
    connection : ConnectionInfo
        Where the kernel listens, and its keys.
    crowd : Crowd, optional
        The kernels of this daemon that publish too fast.
    """

    def __init__(
        self,
        context: zmq.asyncio.Context,
        connection: ConnectionInfo,
        crowd: Crowd | None = None,
    ) -> None:
        self._context = context
        self._connection = connection
        self._signer = Signer(connection.key, connection.signature_scheme)
        self._listening = self._start_listening(crowd or Crowd())
        self._shell: zmq.asyncio.Socket | None = None
        self._own: dict[str, None] = {}  # ids of our last requests, the oldest first

    @property
    def heard_at(self) -> float:
        """When the kernel published anything last, in monotonic seconds."""
        return self._listening.heard_at

    async def kernel_info(self, channel: str = "shell", subshell: str = "") -> Mapping[str, Any]:
        """Ask who the kernel is, and wait for the reply as long as it takes.

        Parameters
        ----------
        channel : str
            ``shell`` answers when no cell runs; ``control`` also during one.
        subshell : str
            Which subshell is to answer; by default the main one.
        """
        return (await self._inquire(channel, "kernel_info_request", {}, subshell)).content

    async def list_subshells(self) -> Sequence[str]:
        """Ask for the ids of the kernel's subshells (JEP 91).

        Raises
        ------
        ValueError
            If the reply is none, or lists too many.
        """
        reply = (await self._inquire("control", "list_subshell_request", {})).content
        found = reply.get("subshell_id")
        if not isinstance(found, list) or len(found) > MAX_SUBSHELLS:
            raise ValueError("its list of subshells makes no sense")
        return [str(one)[:MAX_ID_CHARACTERS] for one in found]

    async def control(self, kind: str, content: Mapping[str, Any]) -> None:
        """Send a request on control, and wait for its reply as long as it takes."""
        await self._inquire("control", kind, content)

    async def _inquire(
        self, channel: str, kind: str, content: Mapping[str, Any], subshell: str = ""
    ) -> Message:
        if self._connection.transport == "ipc":
            message_id, frames = self._pack(kind, content, subshell)
            path = self._connection.url(channel).removeprefix("ipc://")
            return await ask(path, frames, partial(self._reply_to, message_id))
        with self._opened(channel) as socket:
            return await self._ask(socket, kind, content, subshell)

    async def execute_silently(self, code: str) -> bool:
        """Run code without a trace in the kernel's history, and tell whether it went well.

        One at a time: its socket is kept for the next.
        """
        return (await self._execute(code)).get("status") == "ok"

    async def evaluate(self, expression: str) -> str:
        """Evaluate an expression in the same way, and give the text that a cell would show.

        ``""`` where it cannot be evaluated.
        """
        reply = await self._execute("pass", value=expression)
        try:
            return str(reply["user_expressions"]["value"]["data"]["text/plain"])
        except (KeyError, TypeError):
            return ""

    async def _execute(self, code: str, **expressions: str) -> Mapping[str, Any]:
        content = {"code": code, "silent": True, "store_history": False, "allow_stdin": False}
        if self._shell is None:
            self._shell = self._context.socket(zmq.DEALER)
            self._shell.maxmsgsize = MAX_EXECUTION_BYTES
            self._connect(self._shell, "shell")
        content["user_expressions"] = expressions
        return (await self._ask(self._shell, "execute_request", content)).content

    async def request(self, kind: str, content: Mapping[str, Any]) -> None:
        """Send a request on control and do not wait for what it does."""
        with self._opened("control", linger=DELIVERY) as socket:
            await socket.send_multipart(self._pack(kind, content)[1])

    @contextlib.contextmanager
    def _opened(self, channel: str, linger: int = 0) -> Iterator[zmq.asyncio.Socket]:
        """Connect for one request: a socket that is kept takes 40 kB for each kernel."""
        socket = self._context.socket(zmq.DEALER)
        socket.maxmsgsize = MAX_REPLY_BYTES  # libzmq ends a connection by which a longer one comes
        self._connect(socket, channel)
        try:
            yield socket
        finally:
            socket.close(linger=linger)

    async def watch_status(self, seen: StatusSeen, lost: Callable[[], None]) -> None:
        """Report which requests the kernel works on, for ever.

        Parameters
        ----------
        seen : callable
            Takes the id of a request that is not our own, and whether it is busy with it.
        lost : callable
            Is called when something that the kernel published may have been lost.
        """

        def take(frames: list[bytes]) -> None:
            message = parse_message(frames, self._signer) if may_be("status", frames) else None
            if message is None or message.kind != "status" or message.parent_id in self._own:
                return
            state = message.content.get("execution_state")
            if isinstance(state, str) and state in STATES:
                seen(message.parent_id[:MAX_ID_CHARACTERS], state == "busy")

        await self._listening.listen(take, lost)

    def heartbeat(self) -> bool | None:
        """Send the next heartbeat, and tell whether the one before was answered.

        None where there was none, or nothing can be told of it.
        """
        return self._listening.beat()

    def close(self) -> None:
        """Let go of the kernel; what was not sent yet is dropped."""
        if self._shell is not None:
            self._shell.close(linger=0)
        self._listening.close()

    def _start_listening(self, crowd: Crowd) -> Listening:
        if self._connection.transport == "ipc":
            return OverUnix(self._connection, crowd)
        plain: zmq.Context[zmq.SyncSocket] = zmq.Context.shadow(self._context)
        return OverZmq(plain.socket(zmq.SUB), plain.socket(zmq.DEALER), self._connect, crowd)

    async def _ask(
        self,
        socket: zmq.asyncio.Socket,
        kind: str,
        content: Mapping[str, Any],
        subshell: str = "",
    ) -> Message:
        message_id, frames = self._pack(kind, content, subshell)
        await socket.send_multipart(frames)
        while True:
            frames, size = await _receive(socket)
            if size <= MAX_REPLY_BYTES:
                message = self._reply_to(message_id, frames)
            else:  # that takes long to read
                message = await asyncio.to_thread(self._reply_to, message_id, frames)
            if message is not None:
                return message

    def _reply_to(self, message_id: str, frames: list[bytes]) -> Message | None:
        message = parse_message(frames, self._signer)
        return message if message and message.parent_id == message_id else None

    def _pack(
        self, kind: str, content: Mapping[str, Any], subshell: str = ""
    ) -> tuple[str, list[bytes]]:
        message_id = uuid.uuid4().hex
        self._own[message_id] = None
        if len(self._own) > OWN_REQUESTS:
            del self._own[next(iter(self._own))]
        date = datetime.now(UTC).isoformat()
        return message_id, pack_request(
            kind,
            content,
            message_id=message_id,
            date=date,
            signer=self._signer,
            subshell=subshell,
        )

    def _connect(self, socket: zmq.SyncSocket | zmq.asyncio.Socket, channel: str) -> None:
        socket.linger = 0
        socket.reconnect_ivl = RECONNECT
        socket.reconnect_ivl_max = RECONNECT_MAX
        if ":" in self._connection.ip:
            socket.ipv6 = True
        if self._connection.curve is not None:
            # As jupyter_client does: every client of a kernel shares the kernel's own pair.
            socket.curve_publickey = self._connection.curve.public.encode()
            socket.curve_secretkey = self._connection.curve.secret.encode()
            socket.curve_serverkey = self._connection.curve.public.encode()
        socket.connect(self._connection.url(channel))


async def _receive(socket: zmq.asyncio.Socket) -> tuple[list[bytes], int]:
    """Receive a message, as far as it is bounded, and give its size; one with more is empty.

    What comes at once is received without waiting, so others get a turn in between.
    """
    frames = [await socket.recv()]
    size, count = len(frames[0]), 1
    while socket.rcvmore:
        frame, count = await socket.recv(), count + 1
        if count <= MAX_REPLY_FRAMES and size + len(frame) <= MAX_EXECUTION_BYTES:
            frames.append(frame)
            size += len(frame)
        elif count % MAX_REPLY_FRAMES == 0:
            await asyncio.sleep(0)  # for whoever else is due
    whole = count == len(frames)
    return (frames, size) if whole else ([], 0)
