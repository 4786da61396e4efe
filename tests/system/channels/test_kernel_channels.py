"""What the daemon takes of what a kernel says, on real sockets."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.asyncio

from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.protocol.jupyter_messages import DELIMITER, Signer
from kconnd.system.channels.kernel_channels import KernelChannels
from kconnd.system.channels.listeners import MAX_FRAME_BYTES
from tests.conftest import wait_until


def reply(to: str, content: dict[str, Any], key: str = "secret") -> list[bytes]:
    """Pack what a kernel replies to a request."""
    parts: tuple[dict[str, Any], ...]
    parts = {"msg_type": "kernel_info_reply"}, {"msg_id": to}, {}, content
    texts = [json.dumps(part).encode() for part in parts]
    return [DELIMITER, Signer(key).sign(texts), *texts]


async def request(socket: zmq.asyncio.Socket) -> tuple[bytes, dict[str, Any]]:
    """Hear a request, as a kernel does: gives who sent it, and its header."""
    sender, delimiter, signature, *parts = await socket.recv_multipart()
    assert (delimiter, signature) == (DELIMITER, Signer("secret").sign(parts))
    return sender, json.loads(parts[0])


@pytest.fixture(name="context")
async def _context() -> AsyncIterator[zmq.asyncio.Context]:
    context = zmq.asyncio.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture(name="connection", params=["ipc", "tcp"])
def _connection(request: pytest.FixtureRequest, tmp_path: Path) -> ConnectionInfo:
    if request.param == "ipc":
        return ConnectionInfo("ipc", str(tmp_path / "k"), (1, 2, 3, 4, 5), "secret")
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(5)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        ports = [int(one.getsockname()[1]) for one in sockets]
    return ConnectionInfo("tcp", "127.0.0.1", tuple(ports), "secret")


async def test_a_kernel_that_does_not_listen_yet_is_asked_once_it_does(
    context: zmq.asyncio.Context, connection: ConnectionInfo
) -> None:
    channels = KernelChannels(context, connection)
    asked = asyncio.ensure_future(channels.kernel_info())
    await asyncio.wait([asked], timeout=0.05)  # some tries
    with context.socket(zmq.ROUTER) as shell:
        shell.bind(connection.url("shell"))
        sender, header = await request(shell)
        assert header["msg_type"] == "kernel_info_request"
        await shell.send_multipart([sender, *reply(header["msg_id"], {"banner": "x" * 100_000})])
        assert await asked == {"banner": "x" * 100_000}
        channels.close()


async def test_no_other_message_is_taken_for_a_kernels_answer(
    context: zmq.asyncio.Context, connection: ConnectionInfo
) -> None:
    channels = KernelChannels(context, connection)
    with context.socket(zmq.ROUTER) as control:
        control.bind(connection.url("control"))
        asked = asyncio.ensure_future(channels.kernel_info("control"))
        sender, header = await request(control)
        number = header["msg_id"]
        for key, to in (("another", number), ("secret", "another"), ("secret", number)):
            await control.send_multipart([sender, *reply(to, {"key": key, "to": to}, key)])
        assert await asked == {"key": "secret", "to": number}
        channels.close()


async def test_a_kernel_is_asked_again_whose_connection_is_lost(
    context: zmq.asyncio.Context, tmp_path: Path
) -> None:
    """As one that replaces itself at its start (execve(2)) does."""
    connection = ConnectionInfo("ipc", str(tmp_path / "k"), (1, 2, 3, 4, 5), "secret")
    channels = KernelChannels(context, connection)
    with socket.socket(socket.AF_UNIX) as first:
        first.bind(connection.url("shell").removeprefix("ipc://"))
        first.listen()
        asked = asyncio.ensure_future(channels.kernel_info())
        side, _ = await asyncio.to_thread(first.accept)
        side.close()
    with context.socket(zmq.ROUTER) as shell:
        shell.bind(connection.url("shell"))  # libzmq removes what is there
        sender, header = await request(shell)
        await shell.send_multipart([sender, *reply(header["msg_id"], {"banner": ""})])
        assert await asked == {"banner": ""}
        channels.close()


class Speaker:
    """The iopub of a kernel that says what it is told to."""

    def __init__(self, context: zmq.asyncio.Context, connection: ConnectionInfo) -> None:
        plain: zmq.Context[zmq.SyncSocket] = zmq.Context.shadow(context)
        self.iopub = plain.socket(zmq.PUB)
        self.iopub.linger = 0
        self.iopub.bind(connection.url("iopub"))

    def say(self, state: object, parent: object = "r1", kind: str = "status") -> None:
        parts: list[object]
        parts = [{"msg_type": kind}, {"msg_id": parent, "msg_type": "x"}, {}, state]
        texts = [json.dumps(one).encode() for one in parts]
        self.iopub.send_multipart([DELIMITER, Signer("secret").sign(texts), *texts])

    def says(self, state: str, parent: str = "r1") -> None:
        self.say({"execution_state": state}, parent)

    async def until_heard(self, seen: list[tuple[str, bool]]) -> None:
        """Say something until it is heard: a PUB does not know who is about to listen."""

        def heard() -> bool:
            self.says("busy", "hello")
            return bool(seen)

        await wait_until(heard, "it to listen")


@pytest.fixture(name="speaker")
async def _speaker(
    context: zmq.asyncio.Context, connection: ConnectionInfo
) -> AsyncIterator[Speaker]:
    speaker = Speaker(context, connection)
    yield speaker
    speaker.iopub.close()


@contextlib.asynccontextmanager
async def watching(
    channels: KernelChannels, seen: list[tuple[str, bool]], lost: list[int]
) -> AsyncIterator[None]:
    def take(request: str, busy: bool, _subshell: str) -> None:  # noqa: FBT001  # as `watch_status` gives it
        seen.append((request, busy))

    task = asyncio.ensure_future(channels.watch_status(take, lambda: lost.append(1)))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        channels.close()


async def test_a_kernel_is_believed_busy_and_idle_and_nothing_else(
    context: zmq.asyncio.Context, connection: ConnectionInfo, speaker: Speaker
) -> None:
    """What it says goes into replies and decisions, and is the user's code's to choose."""
    seen: list[tuple[str, bool]] = []
    async with watching(KernelChannels(context, connection), seen, []):
        await speaker.until_heard(seen)
        for state in ("x" * 100_000, "\x1b[2J", "starting", "", None, 7, ["idle"], {"idle": 1}):
            speaker.say({"execution_state": state}, "odd")
        speaker.say({}, "odd")
        speaker.say({"execution_state": "busy"}, "odd", "stream")
        speaker.says("busy", "y" * 1000)
        speaker.says("idle", "")
        await wait_until(lambda: ("", False) in seen, "all to be heard")
    assert [one for one in seen if one[0] != "hello"] == [("y" * 200, True), ("", False)]


async def test_what_a_kernel_says_of_our_own_requests_does_not_count(
    context: zmq.asyncio.Context, connection: ConnectionInfo, speaker: Speaker
) -> None:
    """They are known by their ids, since any client may call itself kconnd."""
    seen: list[tuple[str, bool]] = []
    channels = KernelChannels(context, connection)
    with context.socket(zmq.ROUTER) as shell:
        shell.bind(connection.url("shell"))
        async with watching(channels, seen, []):
            await speaker.until_heard(seen)
            asked = asyncio.ensure_future(channels.kernel_info(subshell="s1"))
            sender, header = await request(shell)
            assert header["subshell_id"] == "s1"
            speaker.says("busy", header["msg_id"])
            speaker.says("busy", "another")
            speaker.says("idle", header["msg_id"])
            await shell.send_multipart([sender, *reply(header["msg_id"], {})])
            await asked
            await wait_until(lambda: ("another", True) in seen, "the other to be heard")
            speaker.says("idle", "another")
            await wait_until(lambda: ("another", False) in seen, "the other to be heard")
    assert {one[0] for one in seen} == {"hello", "another"}
    speaker.iopub.close()


@pytest.mark.parametrize("content", [{}, {"subshell_id": "abc"}, {"subshell_id": ["a"] * 101}])
async def test_a_list_of_subshells_that_makes_no_sense_is_refused(
    context: zmq.asyncio.Context, connection: ConnectionInfo, content: dict[str, Any]
) -> None:
    channels = KernelChannels(context, connection)
    with context.socket(zmq.ROUTER) as control:
        control.bind(connection.url("control"))
        for answer in (content, {"subshell_id": ["a", "b"]}):
            asked = asyncio.ensure_future(channels.list_subshells())
            sender, header = await request(control)
            assert header["msg_type"] == "list_subshell_request"
            await control.send_multipart([sender, *reply(header["msg_id"], answer)])
            await asyncio.wait([asked])
            assert bool(asked.exception()) == (answer is content)
        assert asked.result() == ["a", "b"]
    channels.close()


async def test_a_message_that_is_too_long_ends_no_listening(
    context: zmq.asyncio.Context, connection: ConnectionInfo, speaker: Speaker
) -> None:
    """Over tcp the connection is made anew for it, by which others may be lost, so that is told."""
    seen: list[tuple[str, bool]] = []
    lost: list[int] = []
    async with watching(KernelChannels(context, connection), seen, lost):
        await speaker.until_heard(seen)
        speaker.iopub.send_multipart([b"stream", bytes(MAX_FRAME_BYTES + 1)])
        if connection.transport == "tcp":
            await wait_until(lambda: lost, "the loss to be told")
        seen.clear()
        await speaker.until_heard(seen)


async def test_heartbeats_over_tcp_are_known_once_one_was_answered(
    context: zmq.asyncio.Context, connection: ConnectionInfo
) -> None:
    plain: zmq.Context[zmq.SyncSocket] = zmq.Context.shadow(context)
    with (
        plain.socket(zmq.REP) as kernel,
        contextlib.closing(KernelChannels(context, connection)) as channels,
    ):
        kernel.bind(connection.url("hb"))
        assert not channels.heartbeat()
        await wait_until(lambda: (channels.heartbeat(), kernel.poll(10))[1], "a heartbeat")
        assert channels.heartbeat() is False
        kernel.send_multipart(kernel.recv_multipart())
        await wait_until(channels.heartbeat, "its answer")
