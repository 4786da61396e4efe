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

from kconnd.core.connection import ConnectionInfo
from kconnd.core.wire import DELIMITER, Signer
from kconnd.system.channels import KernelChannels
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
    context.term()


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


async def test_a_kernel_is_believed_busy_idle_or_starting_and_nothing_else(tmp_path: Path) -> None:
    """What it says goes into replies and decisions, and is the user's code's to choose."""
    connection = ConnectionInfo("ipc", str(tmp_path / "k"), (1, 2, 3, 4, 5), "secret")
    context, seen = zmq.asyncio.Context(), list[str]()
    iopub = context.socket(zmq.PUB)
    iopub.bind(connection.url("iopub"))
    channels = KernelChannels(context, connection)
    watching = asyncio.ensure_future(channels.watch_status(seen.append))

    def say(state: object) -> None:
        header, parent = {"msg_type": "status"}, {"msg_type": "execute_request"}
        parts = [json.dumps(one).encode() for one in (header, parent, {}, state)]
        iopub.send_multipart([DELIMITER, Signer("secret").sign(parts), *parts])

    def connected() -> bool:
        say({"execution_state": "starting"})
        return bool(seen)

    await wait_until(connected, "it to listen")
    for state in ("x" * 100_000, "\x1b[2J", "dead", "", None, 7, ["idle"], {"idle": 1}):
        say({"execution_state": state})
    say({})
    say({"execution_state": "busy"})
    say({"execution_state": "idle"})
    await wait_until(lambda: "idle" in seen, "all to be heard")
    assert set(seen) == {"starting", "busy", "idle"}
    watching.cancel()
    channels.close()
    iopub.close(linger=0)
    context.term()
