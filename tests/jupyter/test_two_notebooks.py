"""Two notebooks of a Jupyter server on one kernel: what the second learns of a restart."""

import asyncio
import contextlib
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.conftest import wait_for
from tests.end_to_end.daemon import Daemon
from tests.jupyter.conftest import FORK
from tests.jupyter.test_server import CLASS, Server, execute_request

RELEASE = "KconndMappingKernelManager.release_delay_s"
POLL_S = 0.5  # so that a poll falls into the cell
NO_POLL_S = 600.0  # so that only an event can report the crash
# A server's iopub socket reconnects within 100 ms of a restart; earlier messages are lost.
CELL = "import time\nfor i in range(4):\n    time.sleep(0.5)\n    print(i, flush=True)"
OUTPUT = "0\n1\n2\n3\n"


@pytest.fixture(params=[POLL_S])
def server(
    daemon: Daemon, jupyter: dict[str, str], request: pytest.FixtureRequest
) -> Iterator[Server]:
    options = (
        f"--ServerApp.kernel_manager_class={CLASS}",
        f"--KernelRestarter.time_to_dead={request.param}",
    )
    with Server(daemon.folder, jupyter, *options) as found:
        yield found


class Notebook:
    """A websocket on a kernel, and the messages that it has received."""

    def __init__(self, connection: WebSocketClientConnection) -> None:
        self._connection = connection
        self.messages: list[dict[str, Any]] = []

    async def read_until(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        async with asyncio.timeout(30):
            while True:
                self.messages.append(json.loads(str(await self._connection.read_message())))
                if condition(self.messages[-1]):
                    return

    async def start(self, code: str) -> str:
        message_id = uuid.uuid4().hex
        await self._connection.write_message(json.dumps(execute_request(message_id, code)))
        return message_id

    async def run(self, code: str) -> str:
        message_id = await self.start(code)
        await self.read_until(
            lambda message: (
                message["parent_header"].get("msg_id") == message_id
                and message["content"].get("execution_state") == "idle"
            )
        )
        return "".join(
            message["content"]["text"]
            for message in self.messages
            if message["msg_type"] == "stream"
            and message["parent_header"].get("msg_id") == message_id
        )

    def states(self) -> list[str]:
        return [
            message["content"]["execution_state"]
            for message in self.messages
            if message["msg_type"] == "status"
        ]


@contextlib.asynccontextmanager
async def _notebook(
    server: Server, kernel_id: str, first: str = "print('attached')"
) -> AsyncIterator[Notebook]:
    url = f"ws://127.0.0.1:{server.port}/api/kernels/{kernel_id}/channels"
    url = f"{url}?token={server.token}&session_id=notebook"
    connection = await websocket_connect(url)
    try:
        notebook = Notebook(connection)
        assert await notebook.run(first)
        yield notebook
    finally:
        connection.close()
        while await connection.read_message() is not None:
            pass


async def _external(server: Server, daemon: Daemon) -> str:
    daemon.profile("seen", f"{FORK}publish: jupyter\n")
    daemon.ask("POST", "/v1/reload")
    await asyncio.to_thread(daemon.post, "seen", "start")
    await asyncio.to_thread(wait_for, server.kernels, "the server to list it")
    return str(server.kernels()[0]["id"])


def _open(server: Server) -> str:
    return str(server.ask("POST", "api/kernels", {"name": "kconnd-lab"})["id"])


@pytest.mark.parametrize("by", ["the first notebook", "kconnd-ctl"])
async def test_the_second_notebook_keeps_its_output_after_a_requested_restart(
    server: Server, daemon: Daemon, by: str
) -> None:
    ids = [await asyncio.to_thread(_open, server) for _ in range(2)]
    async with _notebook(server, ids[1]) as notebook:
        if by == "kconnd-ctl":
            await asyncio.to_thread(daemon.post, "lab", "restart")
        else:
            await asyncio.to_thread(server.ask, "POST", f"api/kernels/{ids[0]}/restart", {})
        assert await notebook.run(CELL) == OUTPUT
    assert (await asyncio.to_thread(daemon.info, "lab"))["generation"] == 2
    assert "restarting" not in notebook.states(), "JupyterLab opens a dialog for it"
    told = [message for message in notebook.messages if message["msg_type"] == "shutdown_reply"]
    assert [message["content"]["restart"] for message in told] == [True]


@pytest.mark.parametrize("server", [NO_POLL_S], indirect=True)
async def test_a_crash_is_told_once_and_before_anything_of_the_new_process(
    server: Server, daemon: Daemon
) -> None:
    async with _notebook(server, await asyncio.to_thread(_open, server)) as notebook:
        os.kill((await asyncio.to_thread(daemon.info, "lab"))["pid"], signal.SIGKILL)
        await notebook.read_until(lambda message: message["msg_type"] == "status")
        assert notebook.states()[-1] == "restarting"
        await asyncio.to_thread(daemon.wait_state, "lab", "running")
        assert await notebook.run(CELL) == OUTPUT
    assert notebook.states().count("restarting") == 1


@pytest.mark.parametrize("server", [NO_POLL_S], indirect=True)
async def test_a_notebook_on_an_external_kernel_learns_of_a_crash_and_of_a_stop(
    server: Server, daemon: Daemon
) -> None:
    kernel_id = await _external(server, daemon)
    async with _notebook(server, kernel_id) as notebook:
        os.kill((await asyncio.to_thread(daemon.info, "seen"))["pid"], signal.SIGKILL)
        await notebook.read_until(lambda message: message["msg_type"] == "status")
        assert notebook.states()[-1] == "restarting"
        await asyncio.to_thread(daemon.wait_state, "seen", "running")
        assert await notebook.run(CELL) == OUTPUT
        assert notebook.states().count("restarting") == 1
        await asyncio.to_thread(daemon.post, "seen", "stop")
        await notebook.read_until(_is_dead)
    await asyncio.to_thread(daemon.post, "seen", "start")
    await asyncio.to_thread(wait_for, server.kernels, "the server to list it again")
    async with _notebook(server, kernel_id) as notebook:
        assert await notebook.run("print(1)") == "1\n"


@pytest.mark.parametrize("server", [NO_POLL_S], indirect=True)
async def test_a_notebook_on_an_external_kernel_keeps_its_output_after_a_requested_restart(
    server: Server, daemon: Daemon
) -> None:
    async with _notebook(server, await _external(server, daemon)) as notebook:
        await asyncio.to_thread(daemon.post, "seen", "restart")
        assert await notebook.run(CELL) == OUTPUT
    assert "restarting" not in notebook.states()


STUBBORN = """import time
print('begun', flush=True)
while True:
    try:
        time.sleep(0.1)
    except KeyboardInterrupt:
        pass"""


@pytest.mark.parametrize("server", [NO_POLL_S], indirect=True)
@pytest.mark.parametrize(
    ("name", "verb", "text"),
    [
        ("seen", "restart", "seen was restarted (restart was requested): its variables are gone\n"),
        ("lab", "restart", "lab was restarted (restart was requested): its variables are gone\n"),
        ("seen", "stop", "seen is stopped: stop --now was requested"),
    ],
)
async def test_cells_that_a_request_cuts_off_are_aborted_and_say_why(
    server: Server, daemon: Daemon, name: str, verb: str, text: str
) -> None:
    if name == "seen":
        kernel_id = await _external(server, daemon)
    else:
        kernel_id = await asyncio.to_thread(_open, server)
    async with _notebook(server, kernel_id) as notebook:
        ids = [await notebook.start(STUBBORN), await notebook.start("print('never')")]
        await notebook.read_until(_is_stream)
        begun = len(notebook.messages)
        await asyncio.to_thread(daemon.post, name, verb, now=True)
        await notebook.read_until(lambda message: _is_idle_of(message, ids[1]))
        cut_off = notebook.messages[begun:]
        replies = [m for m in cut_off if m["msg_type"] == "execute_reply"]
        assert [reply["content"]["status"] for reply in replies] == ["aborted"] * 2
        assert [reply["parent_header"]["msg_id"] for reply in replies] == ids
        (output,) = filter(_is_stream, cut_off)
        assert output["parent_header"]["msg_id"] == ids[0]
        assert output["content"]["text"].startswith(text)
        if verb == "restart":  # the new process shows that it is ready
            await notebook.read_until(lambda message: _is_idle_of(message, None))
            assert await notebook.run(CELL) == OUTPUT
    assert "restarting" not in notebook.states()


def _is_idle_of(message: dict[str, Any], message_id: str | None) -> bool:
    """Return whether a message is the status ``idle`` after a request; None for no request."""
    is_idle = message["content"].get("execution_state") == "idle"
    return bool(is_idle and message["parent_header"].get("msg_id") == message_id)


async def test_a_closed_notebook_is_no_client_and_can_come_back(
    daemon: Daemon, jupyter: dict[str, str]
) -> None:
    options = f"--ServerApp.kernel_manager_class={CLASS}", f"--{RELEASE}=0.5"
    with Server(daemon.folder, jupyter, *options) as server:
        kernel_id = await asyncio.to_thread(_open, server)
        await asyncio.to_thread(wait_for, lambda: _clients(daemon) == 0, "no client, with no tab")
        async with _notebook(server, kernel_id) as notebook:
            await asyncio.to_thread(wait_for, lambda: _clients(daemon), "a client")
            await notebook.start("import time; time.sleep(2); print('late')")
        await asyncio.to_thread(wait_for, lambda: _clients(daemon) == 0, "no client")
        async with _notebook(server, kernel_id, "print('again')") as notebook:
            texts = [m["content"]["text"] for m in notebook.messages if _is_stream(m)]
            assert texts == ["late\n", "again\n"]
        daemon.profile("lab", f"{FORK}idle: {{stop_after: 1s}}\nheartbeat: {{interval: 1s}}\n")
        await asyncio.to_thread(daemon.ask, "POST", "/v1/reload")
        await asyncio.to_thread(daemon.post, "lab", "restart")
        await asyncio.to_thread(daemon.wait_state, "lab", "stopped")


def _clients(daemon: Daemon) -> int | None:
    clients: int | None = daemon.info("lab")["clients"]
    return clients


def _is_stream(message: dict[str, Any]) -> bool:
    return bool(message["msg_type"] == "stream")


def _is_dead(message: dict[str, Any]) -> bool:
    return bool(message["content"].get("execution_state") == "dead")
