"""The daemon's own connection to one kernel: probes, control requests, status and heartbeat.

Rules. A message is accepted only if it is signed with the kernel's key. From iopub, the daemon uses
the kernel's status messages; the content of other messages is neither parsed nor stored. The
daemon's own requests also make a kernel publish busy and idle. The daemon therefore remembers the
ids of its requests, and ignores each status message whose parent header has one of these ids. The
long-lived connections are in `kconnd.system.channels.listeners`. Each request has its own socket;
only the requests that run code share a socket.
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
    may_have_type,
    pack_request,
    parse_message,
)
from kconnd.system.channels.flow_control import ReadBudget
from kconnd.system.channels.listeners import KernelListener, UnixListener, ZmqListener
from kconnd.system.channels.zmtp_socket import MAX_REPLY_BYTES, request_reply

# Until a kernel has bound its sockets, libzmq retries the connection. The delay doubles with each
# retry, up to the maximum. With a large maximum, the daemon notices late that a kernel is ready.
RECONNECT_DELAY_MS, MAX_RECONNECT_DELAY_MS = 4, 8
REQUEST_STATES = frozenset({"busy", "idle"})  # a kernel also reports "starting"
MAX_OWN_REQUESTS = 256  # the number of own requests to remember
MAX_SUBSHELLS = 100
MAX_ID_CHARACTERS = 200  # longer ids of requests and subshells are truncated
# The limit of the reply with the list of files that a warm kernel has read.
MAX_EXECUTION_BYTES = 4 << 20
MAX_REPLY_FRAMES = 64  # a reply has six frames, besides identities and buffers
MAX_SOCKETS = 65536
LINGER_MS = 5000  # the time to deliver a request after its socket is closed

OnStatus = Callable[[str, bool, str], None]


def new_context() -> zmq.asyncio.Context:
    """Create the daemon's ZMQ context.

    The maximum number of sockets is raised, because libzmq's default suffices for no more than 200
    kernels.
    """
    context = zmq.asyncio.Context()
    context.set(zmq.MAX_SOCKETS, MAX_SOCKETS)
    return context


class KernelChannels:
    """Connections to the channels of one kernel.

    Parameters
    ----------
    context : zmq.asyncio.Context
        The daemon's context.
    connection : ConnectionInfo
        The kernel's addresses and keys.
    budget : ReadBudget, optional
        The daemon's budget for kernels that publish too fast.
    """

    def __init__(
        self,
        context: zmq.asyncio.Context,
        connection: ConnectionInfo,
        budget: ReadBudget | None = None,
    ) -> None:
        self._context = context
        self._connection = connection
        self._signer = Signer(connection.key, connection.signature_scheme)
        self._listener = self._new_listener(budget or ReadBudget())
        self._shell: zmq.asyncio.Socket | None = None
        self._own_ids: dict[str, None] = {}  # the ids of the daemon's last requests, oldest first

    @property
    def heard_at(self) -> float:
        """The monotonic time, in seconds, of the last message on iopub; 0 if none is known."""
        return self._listener.heard_at

    async def kernel_info(self, channel: str = "shell", subshell: str = "") -> Mapping[str, Any]:
        """Send a ``kernel_info_request``, and wait for the reply without a time limit.

        Parameters
        ----------
        channel : str
            The channel of the request: on ``shell``, the kernel replies when no cell is running; on
            ``control``, at any time.
        subshell : str
            The id of the subshell that replies; ``""`` for the main shell.
        """
        return (await self._inquire(channel, "kernel_info_request", {}, subshell)).content

    async def list_subshells(self) -> Sequence[str]:
        """Request the ids of the kernel's subshells (JEP 91).

        Raises
        ------
        ValueError
            If the reply contains no list, or too many ids.
        """
        reply = (await self._inquire("control", "list_subshell_request", {})).content
        ids = reply.get("subshell_id")
        if not isinstance(ids, list) or len(ids) > MAX_SUBSHELLS:
            raise ValueError("its list of subshells is invalid")
        return [str(subshell_id)[:MAX_ID_CHARACTERS] for subshell_id in ids]

    async def control(self, kind: str, content: Mapping[str, Any]) -> None:
        """Send a request on control, and wait for the reply without a time limit."""
        await self._inquire("control", kind, content)

    async def _inquire(
        self, channel: str, kind: str, content: Mapping[str, Any], subshell: str = ""
    ) -> Message:
        if self._connection.transport == "ipc":
            message_id, frames = self._pack(kind, content, subshell)
            path = self._connection.url(channel).removeprefix("ipc://")
            return await request_reply(path, frames, partial(self._reply_to, message_id))
        with self._connected(channel) as socket:
            return await self._request(socket, kind, content, subshell)

    async def execute_silently(self, code: str) -> bool:
        """Run code without an entry in the kernel's history; return whether the code succeeded.

        Calls of `execute_silently`, `run_cell` and `evaluate` must not overlap, because they share
        one socket.
        """
        return (await self._execute(code)).get("status") == "ok"

    async def run_cell(self, code: str, message_id: str) -> str:
        """Run code as a user's cell, and return the status in the reply.

        ``message_id`` is the unique id of the request, which the kernel's status messages name.
        """
        return str((await self._execute(code, message_id=message_id)).get("status", ""))

    async def evaluate(self, expression: str) -> str:
        """Evaluate an expression silently, and return its value as the text that a cell would show.

        Return ``""`` if the expression cannot be evaluated.
        """
        reply = await self._execute("pass", value=expression)
        try:
            return str(reply["user_expressions"]["value"]["data"]["text/plain"])
        except (KeyError, TypeError):
            return ""

    async def _execute(
        self, code: str, *, message_id: str = "", **expressions: str
    ) -> Mapping[str, Any]:
        """Run code as a user's cell if the request has an id, else silently."""
        content: dict[str, Any] = {
            "code": code,
            "silent": not message_id,
            "store_history": False,
            "allow_stdin": False,
            "stop_on_error": True,  # ILua 0.2.1 does not reply without it
        }
        if self._shell is None:
            self._shell = self._context.socket(zmq.DEALER)
            self._shell.maxmsgsize = MAX_EXECUTION_BYTES
            self._connect(self._shell, "shell")
        content["user_expressions"] = expressions
        request = self._request(self._shell, "execute_request", content, message_id=message_id)
        return (await request).content

    async def request(self, kind: str, content: Mapping[str, Any]) -> None:
        """Send a request on control, without waiting for the reply."""
        with self._connected("control", linger_ms=LINGER_MS) as socket:
            await socket.send_multipart(self._pack(kind, content)[1])

    @contextlib.contextmanager
    def _connected(self, channel: str, linger_ms: int = 0) -> Iterator[zmq.asyncio.Socket]:
        """Open a socket for a single request; it is closed afterwards, because it takes 40 kB."""
        socket = self._context.socket(zmq.DEALER)
        socket.maxmsgsize = MAX_REPLY_BYTES  # libzmq closes the connection if a message is longer
        self._connect(socket, channel)
        try:
            yield socket
        finally:
            socket.close(linger=linger_ms)

    async def watch_status(self, on_status: OnStatus, on_loss: Callable[[], None]) -> None:
        """Report when the kernel begins or finishes a client's request; never return.

        Parameters
        ----------
        on_status : callable
            A function that receives the id of a client's request, whether the kernel is busy with
            the request, and the id of the request's subshell (``""`` for the main shell).
        on_loss : callable
            A function that is called when published messages may have been lost.
        """

        def handle(frames: list[bytes]) -> None:
            message = (
                parse_message(frames, self._signer) if may_have_type("status", frames) else None
            )
            if message is None or message.kind != "status" or message.parent_id in self._own_ids:
                return
            state = message.content.get("execution_state")
            if isinstance(state, str) and state in REQUEST_STATES:
                request = message.parent_id[:MAX_ID_CHARACTERS]
                subshell = message.parent_subshell[:MAX_ID_CHARACTERS]
                on_status(request, state == "busy", subshell)

        await self._listener.listen(handle, on_loss)

    def heartbeat(self) -> bool | None:
        """Send the next heartbeat, and return whether the previous heartbeat was answered.

        Return None if there was no previous heartbeat, or if it is unknown whether it was answered.
        """
        return self._listener.send_heartbeat()

    def close(self) -> None:
        """Close all connections; unsent messages are dropped."""
        if self._shell is not None:
            self._shell.close(linger=0)
        self._listener.close()

    def _new_listener(self, budget: ReadBudget) -> KernelListener:
        if self._connection.transport == "ipc":
            return UnixListener(self._connection, budget)
        sync: zmq.Context[zmq.SyncSocket] = zmq.Context.shadow(self._context)
        return ZmqListener(sync.socket(zmq.SUB), sync.socket(zmq.DEALER), self._connect, budget)

    async def _request(
        self,
        socket: zmq.asyncio.Socket,
        kind: str,
        content: Mapping[str, Any],
        subshell: str = "",
        message_id: str = "",
    ) -> Message:
        message_id, frames = self._pack(kind, content, subshell, message_id)
        await socket.send_multipart(frames)
        while True:
            frames, size = await _receive(socket)
            if size <= MAX_REPLY_BYTES:
                message = self._reply_to(message_id, frames)
            else:  # parsing such a message would block the event loop for too long
                message = await asyncio.to_thread(self._reply_to, message_id, frames)
            if message is not None:
                return message

    def _reply_to(self, message_id: str, frames: list[bytes]) -> Message | None:
        message = parse_message(frames, self._signer)
        return message if message and message.parent_id == message_id else None

    def _pack(
        self, kind: str, content: Mapping[str, Any], subshell: str = "", message_id: str = ""
    ) -> tuple[str, list[bytes]]:
        message_id = message_id or uuid.uuid4().hex
        self._own_ids[message_id] = None
        if len(self._own_ids) > MAX_OWN_REQUESTS:
            del self._own_ids[next(iter(self._own_ids))]
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
        socket.reconnect_ivl = RECONNECT_DELAY_MS
        socket.reconnect_ivl_max = MAX_RECONNECT_DELAY_MS
        if ":" in self._connection.ip:
            socket.ipv6 = True
        if self._connection.curve is not None:
            # All clients of a kernel use the kernel's own key pair, as in jupyter_client.
            socket.curve_publickey = self._connection.curve.public.encode()
            socket.curve_secretkey = self._connection.curve.secret.encode()
            socket.curve_serverkey = self._connection.curve.public.encode()
        socket.connect(self._connection.url(channel))


async def _receive(socket: zmq.asyncio.Socket) -> tuple[list[bytes], int]:
    """Receive a message; return its frames and its size, or ``([], 0)`` if it is too long.

    If a frame has already arrived, pyzmq returns it without yielding to the event loop. This
    function therefore yields regularly while it receives the rest of a message that is too long.
    """
    frames = [await socket.recv()]
    size, count = len(frames[0]), 1
    while socket.rcvmore:
        frame, count = await socket.recv(), count + 1
        if count <= MAX_REPLY_FRAMES and size + len(frame) <= MAX_EXECUTION_BYTES:
            frames.append(frame)
            size += len(frame)
        elif count % MAX_REPLY_FRAMES == 0:
            await asyncio.sleep(0)  # let other tasks run
    is_complete = count == len(frames)
    return (frames, size) if is_complete else ([], 0)
