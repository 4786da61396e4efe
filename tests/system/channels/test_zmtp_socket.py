"""Requests over a Unix socket without libzmq, to real sockets of libzmq."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import zmq
import zmq.asyncio

from kconnd.system.channels.zmtp_socket import ZmtpConnection, request_reply


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[zmq.asyncio.Socket]:
    """Give a socket that is bound below the test's folder."""
    with zmq.asyncio.Context() as context, context.socket(zmq.ROUTER) as shell:
        shell.linger = 0
        shell.bind(f"ipc://{tmp_path}/shell")
        yield shell


def parse(frames: Sequence[bytes]) -> bytes | None:
    """Take replies that begin with an empty frame."""
    return frames[1] if frames[0] == b"" else None


async def test_the_first_reply_that_can_be_parsed_is_the_result(
    shell: zmq.asyncio.Socket, tmp_path: Path
) -> None:
    request = asyncio.ensure_future(request_reply(f"{tmp_path}/shell", [b"", b"hello"], parse))
    async with asyncio.timeout(5):
        sender, *frames = await shell.recv_multipart()
        assert frames == [b"", b"hello"]
        await shell.send_multipart([sender, b"noise", b"x"])
        await shell.send_multipart([sender, b"", b"hello again"])
        assert await request == b"hello again"


async def test_a_fault_of_the_parser_reaches_the_caller(
    shell: zmq.asyncio.Socket, tmp_path: Path
) -> None:
    def fail(_frames: Sequence[bytes]) -> bytes:
        raise LookupError("a fault of the parser")

    request = asyncio.ensure_future(request_reply(f"{tmp_path}/shell", [b""], fail))
    async with asyncio.timeout(5):
        sender, _ = await shell.recv_multipart()
        await shell.send_multipart([sender, b""])
        with pytest.raises(LookupError, match="of the parser"):
            await request


def test_a_connection_that_is_closed_by_the_peer_is_an_error(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        connection = ZmtpConnection(str(tmp_path / "s"), "DEALER")
        assert connection.receive() is None
        listener.accept()[0].close()
        with pytest.raises(ConnectionResetError):
            connection.receive()
        assert not connection.is_ready
        connection.close()
