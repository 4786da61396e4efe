"""What it takes to hear a kernel on Unix sockets, against real sockets of libzmq."""

import asyncio
import contextlib
import resource
import select
import socket
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest
import zmq

from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.protocol.zmtp import GREETING, MAX_MESSAGE_BYTES
from kconnd.system.channels import listeners
from kconnd.system.channels.flow_control import ReadBudget
from kconnd.system.channels.listeners import UnixListener
from tests.conftest import wait_until

Context = zmq.Context[zmq.Socket[bytes]]


@pytest.fixture(name="context")
def _context() -> Iterator[Context]:
    context: Context = zmq.Context()
    context.linger = 0
    yield context
    context.destroy()


@pytest.fixture(name="connection")
def _connection(tmp_path: Path) -> ConnectionInfo:
    return ConnectionInfo("ipc", str(tmp_path / "k"), (1, 2, 3, 4, 5), "secret")


@contextlib.asynccontextmanager
async def hearing(connection: ConnectionInfo) -> AsyncIterator[list[list[bytes]]]:
    heard: list[list[bytes]] = []
    ear = UnixListener(connection, ReadBudget())
    task = asyncio.ensure_future(ear.listen(heard.append, lambda: None))
    yield heard
    ear.close()
    task.cancel()


def bound(context: Context, connection: ConnectionInfo, kind: int) -> zmq.Socket[bytes]:
    found = context.socket(kind)
    found.bind(connection.url("iopub" if kind == zmq.PUB else "hb"))
    return found


async def heard_again(iopub: zmq.Socket[bytes], heard: list[list[bytes]], what: str) -> None:
    """Say something until it is heard: a PUB does not know who is about to listen."""
    before = len(heard)

    def said() -> bool:
        iopub.send_multipart([b"topic", b"hello"])
        return len(heard) > before

    await wait_until(said, what)
    assert heard[-1] == [b"topic", b"hello"]


async def test_iopub_is_heard_and_what_is_too_long_is_not(
    context: Context, connection: ConnectionInfo
) -> None:
    with bound(context, connection, zmq.PUB) as iopub:
        async with hearing(connection) as heard:
            await heard_again(iopub, heard, "it to listen")
            iopub.send_multipart([b"stream", bytes(100 * MAX_MESSAGE_BYTES)])
            iopub.send_multipart([b"", bytes(1000), b"after it"])
            await wait_until(lambda: [b"", bytes(1000), b"after it"] in heard, "the rest")
            assert all(sum(map(len, one)) < MAX_MESSAGE_BYTES for one in heard)


async def test_iopub_is_heard_again_after_its_socket_was_made_anew(
    context: Context, connection: ConnectionInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel may replace itself (execve(2)), and binds the same paths again then."""
    monkeypatch.setattr(listeners, "RECONNECT_DELAY_S", 0.01)
    async with hearing(connection) as heard:
        for _ in range(2):
            with bound(context, connection, zmq.PUB) as iopub:
                await heard_again(iopub, heard, "it to listen")


async def test_what_is_no_zmq_socket_is_left_and_tried_again(
    context: Context, connection: ConnectionInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "RECONNECT_DELAY_S", 0.01)
    path = connection.url("iopub").removeprefix("ipc://")
    async with hearing(connection) as heard:
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
            other.listen()
            stranger, _ = await asyncio.to_thread(other.accept)
            stranger.sendall(b"220 mail.example ESMTP".ljust(64))
            await asyncio.to_thread(lambda: stranger.recv(1000) and stranger.recv(1000))
            stranger.close()
        await asyncio.to_thread(Path(path).unlink)
        with bound(context, connection, zmq.PUB) as iopub:
            await heard_again(iopub, heard, "it to listen")


async def test_a_fault_in_what_takes_messages_is_told_and_does_not_spin(
    context: Context, connection: ConnectionInfo
) -> None:
    def take(frames: list[bytes]) -> None:
        raise KeyError(frames[-1])

    ear = UnixListener(connection, ReadBudget())
    with bound(context, connection, zmq.PUB) as iopub:
        task = asyncio.ensure_future(ear.listen(take, lambda: None))

        def ended() -> bool:
            iopub.send(b"hello")
            return task.done()

        await wait_until(ended, "the fault")
    assert isinstance(task.exception(), KeyError)
    ear.close()


@pytest.mark.parametrize("kind", [zmq.ROUTER, zmq.REP])
async def test_heartbeats_are_answered_missed_and_answered_again(
    context: Context, connection: ConnectionInfo, kind: int
) -> None:
    ear = UnixListener(connection, ReadBudget())
    with bound(context, connection, kind) as kernel:
        assert ear.send_heartbeat() is None, "an accepted connection is no heartbeat"
        assert not kernel.poll(50)
        assert ear.send_heartbeat() is None, "and neither is that it greets"
        for _ in range(3):
            assert ear.send_heartbeat() is False
            assert ear.send_heartbeat() is False
            assert kernel.poll(5000)
            kernel.send_multipart(kernel.recv_multipart())
            assert not kernel.poll(50), "one that was not answered was sent again"
            await wait_until(ear.send_heartbeat, "an answer")
    ear.close()


async def test_a_heartbeat_is_missed_where_nobody_listens_until_somebody_does(
    context: Context, connection: ConnectionInfo
) -> None:
    ear = UnixListener(connection, ReadBudget())
    for _ in range(2):  # the second time as after execve(2)
        assert ear.send_heartbeat() is False
        with bound(context, connection, zmq.ROUTER) as kernel:
            await wait_until(lambda: (ear.send_heartbeat(), kernel.poll(10))[1], "a heartbeat")
            kernel.send_multipart(kernel.recv_multipart())
            await wait_until(ear.send_heartbeat, "its answer")
        await wait_until(lambda: ear.send_heartbeat() is False, "it to be gone")
    ear.close()


async def test_a_lost_heartbeat_connection_is_no_missed_heartbeat(
    context: Context, connection: ConnectionInfo
) -> None:
    """The kernel is well all the time: it binds its socket anew, as after execve(2)."""
    ear = UnixListener(connection, ReadBudget())
    for _ in range(2):
        with bound(context, connection, zmq.ROUTER) as kernel:
            assert ear.send_heartbeat() is None
            await wait_until(
                lambda: (ear.send_heartbeat() is None, kernel.poll(10))[1], "it to greet"
            )
        assert ear._heartbeat is not None
        hung_up = select.poll()
        hung_up.register(ear._heartbeat, select.POLLHUP)
        await wait_until(partial(hung_up.poll, 0), "it to hang up")
    ear.close()


async def test_a_lack_of_our_own_descriptors_is_no_missed_heartbeat(
    context: Context, connection: ConnectionInfo
) -> None:
    ear = UnixListener(connection, ReadBudget())
    with bound(context, connection, zmq.REP) as kernel:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            beats = [ear.send_heartbeat() for _ in range(4)]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert beats == [None] * 4
        await wait_until(lambda: (ear.send_heartbeat(), kernel.poll(10))[1], "a heartbeat")
        kernel.send_multipart(kernel.recv_multipart())
        await wait_until(ear.send_heartbeat, "an answer")
    ear.close()


async def test_closed_it_holds_no_connection(connection: ConnectionInfo) -> None:
    ear = UnixListener(connection, ReadBudget())
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2)]
        for server, channel in zip(servers, ("iopub", "hb"), strict=True):
            server.bind(connection.url(channel).removeprefix("ipc://"))
            server.listen()
        task = asyncio.ensure_future(ear.listen(print, print))
        ear.send_heartbeat()
        sides = [(await asyncio.to_thread(server.accept))[0] for server in servers]
        ear.close()
        for side in map(stack.enter_context, sides):
            side.settimeout(5)
            assert (await asyncio.to_thread(side.recv, 1000)).startswith(GREETING)
            assert await asyncio.to_thread(side.recv, 1000) == b""
        assert task.cancelled()
