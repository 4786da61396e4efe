"""A real Jupyter server on kconnd's kernels: its REST interface, and its websockets."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from jupyter_client.connect import write_connection_file
from tornado.ioloop import IOLoop
from tornado.websocket import WebSocketClientConnection, websocket_connect

from kconnd.attach import this_machine
from kconnd.jupyter.server import KconndMappingKernelManager
from tests.conftest import wait_for
from tests.end_to_end.daemon import Daemon, run
from tests.jupyter.conftest import FORK, install

CLASS = "kconnd.jupyter.server.KconndMappingKernelManager"


class Server:
    """A Jupyter server on loopback, asked as Lab asks it."""

    def __init__(self, home: Path, env: dict[str, str], *options: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.token = secrets.token_hex(8)
        (home / "root").mkdir(exist_ok=True)
        self.command = [
            *(sys.executable, "-W", "ignore", "-m", "jupyter_server"),
            *("--allow-root", "--no-browser", f"--port={self.port}", "--ServerApp.port_retries=0"),
            *("--ServerApp.jpserver_extensions={}", f"--ServerApp.root_dir={home}/root"),
            *("--ServerApp.allow_external_kernels=True", *options),
        ]
        self.env = {**env, "JUPYTER_TOKEN": self.token}
        self.log = home / "server.log"

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, env=self.env, stderr=log, stdout=log)
        wait_for(self._answers, "the server", 60)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)

    def _answers(self) -> bool:
        try:
            return bool(self.ask("GET", "api"))
        except OSError:
            return False

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        url = f"http://127.0.0.1:{self.port}/{path}"
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(url, data, headers, method=method)  # loopback
        with contextlib.closing(urllib.request.urlopen(request, timeout=60)) as reply:  # noqa: S310  # the same
            text = reply.read()
        return json.loads(text) if text else None

    def kernels(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("GET", "api/kernels")
        return found

    def run(self, kernel_id: str, code: str) -> str:
        """Run code over the websocket, as a notebook does."""

        async def talk() -> str:
            url = f"ws://127.0.0.1:{self.port}/api/kernels/{kernel_id}/channels"
            connection = await websocket_connect(f"{url}?token={self.token}")
            message_id, printed = uuid.uuid4().hex, ""
            await connection.write_message(json.dumps(execute_request(message_id, code)))
            while True:
                message = json.loads(str(await connection.read_message()))
                if message["parent_header"].get("msg_id") != message_id:
                    continue
                if message["msg_type"] == "stream":
                    printed += message["content"]["text"]
                if message["content"].get("execution_state") == "idle":
                    break
            connection.close()
            return printed

        result: str = IOLoop(make_current=False).run_sync(talk, timeout=60)
        return result


def execute_request(message_id: str, code: str) -> dict[str, Any]:
    header = {"msg_id": message_id, "msg_type": "execute_request", "username": "", "session": "s"}
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}}
    return {
        "header": {**header, "version": "5.3", "date": "2026-01-01T00:00:00Z"},
        "parent_header": {},
        "metadata": {},
        "content": {**content, "allow_stdin": False, "stop_on_error": True},
        "channel": "shell",
        "buffers": [],
    }


@pytest.fixture
def server(home: Path, daemon: Daemon, jupyter: dict[str, str]) -> Iterator[Server]:
    for name, more in (
        ("seen", "publish: jupyter\n"),
        ("ends", "publish: jupyter\non_frontend_shutdown: stop\n"),
    ):
        daemon.profile(name, FORK + more)
    daemon.ask("POST", "/v1/reload")
    install(jupyter)
    with Server(home, jupyter, f"--ServerApp.kernel_manager_class={CLASS}") as found:
        yield found


def external(server: Server, daemon: Daemon, name: str) -> dict[str, Any]:
    """Start a kernel, and wait until the server lists it as external."""
    daemon.post(name, "start")
    wait_for(server.kernels, "the server to list it")
    (found,) = server.kernels()
    return found


def test_a_kernel_of_a_spec_is_attached_to_and_survives_the_server(
    server: Server, daemon: Daemon, home: Path, jupyter: dict[str, str]
) -> None:
    found = server.ask("POST", "api/kernels", {"name": "kconnd-lab"})
    assert server.run(found["id"], "kept = 6 * 7\nprint(kept)") == "42\n"
    pid = daemon.info("lab")["pid"]
    server.__exit__()
    assert daemon.info("lab")["pid"] == pid
    with Server(home, jupyter) as stock:
        found = stock.ask("POST", "api/kernels", {"name": "kconnd-lab"})
        assert stock.run(found["id"], "print(kept)") == "42\n"
        stock.ask("DELETE", f"api/kernels/{found['id']}")
    assert daemon.info("lab")["pid"] == pid
    server.__enter__()


def test_each_notebook_gets_a_kernel_named_after_it(server: Server, daemon: Daemon) -> None:
    for path in ("one.ipynb", "two.ipynb"):
        body = {"path": path, "name": path, "type": "notebook", "kernel": {"name": "kconnd-each"}}
        server.ask("POST", "api/sessions", body)
    names = [kernel["name"] for kernel in daemon.get("/v1/kernels")["kernels"]]
    made = sorted(name for name in names if name.startswith("each@"))
    assert [name.partition("-")[0] for name in made] == ["each@one", "each@two"]


def test_restart_and_interrupt_by_rest_go_through_the_daemon(
    server: Server, daemon: Daemon
) -> None:
    found = server.ask("POST", "api/kernels", {"name": "kconnd-lab"})
    before = daemon.info("lab")
    server.ask("POST", f"api/kernels/{found['id']}/restart")
    after = daemon.info("lab")
    assert after["generation"] == before["generation"] + 1
    assert server.run(found["id"], "print(1)") == "1\n"
    file = after["connection_file"]
    subprocess.run(
        [sys.executable, "-c", START_SLEEP, file], check=True, capture_output=True, timeout=60
    )
    wait_for(lambda: daemon.info("lab")["execution_state"] == "busy", "the cell to run")
    server.ask("POST", f"api/kernels/{found['id']}/interrupt")
    wait_for(lambda: daemon.info("lab")["execution_state"] == "idle", "it to be interrupted")


START_SLEEP = """\
import sys
from jupyter_client import BlockingKernelClient
client = BlockingKernelClient(connection_file=sys.argv[1])
client.load_connection_file(); client.start_channels(); client.wait_for_ready()
client.execute("import time; print('begun'); time.sleep(60)")
while client.get_iopub_msg(timeout=10)["msg_type"] != "stream": pass
client.stop_channels()
"""


def test_an_external_kernel_is_listed_as_what_it_is(server: Server, daemon: Daemon) -> None:
    found = external(server, daemon, "seen")
    assert (found["name"], found["execution_state"]) == ("seen", "idle")
    assert server.run(found["id"], "print(1)") == "1\n"
    file = daemon.info("seen")["connection_file"]
    subprocess.run([sys.executable, "-c", START_SLEEP, file], check=True, capture_output=True)
    wait_for(lambda: server.kernels()[0]["execution_state"] == "busy", "it to be busy")
    server.ask("POST", f"api/kernels/{found['id']}/interrupt")
    wait_for(lambda: server.kernels()[0]["execution_state"] == "idle", "it to be idle")
    daemon.post("seen", "stop")
    wait_for(lambda: not server.kernels(), "it to be gone from the list")


def test_a_file_that_goes_while_the_server_ends_does_not_keep_it(tmp_path: Path) -> None:
    """A KeyError there kept a server from shutting down."""
    file = tmp_path / "seen.json"
    write_connection_file(str(file))
    ours = {"kernel_name": "python3", "kconnd": "seen", "kconnd_machine": this_machine()}
    file.write_text(json.dumps(json.loads(file.read_text()) | ours))

    async def end() -> None:
        manager = KconndMappingKernelManager(external_connection_dir=str(tmp_path))
        (kernel_id,) = manager.list_kernel_ids()
        file.unlink()
        await manager.shutdown_kernel(kernel_id)
        assert manager.list_kernel_ids() == []  # as `if kernel_manager:` asks

    asyncio.run(end())


def test_an_external_kernel_is_restarted_in_its_place(server: Server, daemon: Daemon) -> None:
    found = external(server, daemon, "seen")
    run(daemon.info("seen")["connection_file"], "gone = 1")
    server.ask("POST", f"api/kernels/{found['id']}/restart")
    assert daemon.info("seen")["generation"] == 2
    assert [kernel["id"] for kernel in server.kernels()] == [found["id"]]
    assert server.run(found["id"], "print('gone' in globals())") == "False\n"


def test_an_external_kernel_stays_listed_while_it_is_brought_back(
    server: Server, daemon: Daemon
) -> None:
    daemon.profile("seen", f"{FORK}publish: jupyter\nrestart: {{backoff: 2s}}\n")
    daemon.ask("POST", "/v1/reload")
    found = external(server, daemon, "seen")
    os.kill(daemon.info("seen")["pid"], signal.SIGKILL)
    wait_for(lambda: daemon.info("seen")["state"] == "backoff", "it to be down")
    (shown,) = server.kernels()
    assert (shown["id"], shown["execution_state"]) == (found["id"], "restarting")
    daemon.wait_state("seen", "running")
    one = server.ask("GET", f"api/kernels/{found['id']}")
    assert one["execution_state"] in {"idle", "starting"}
    assert server.run(found["id"], "print(1)") == "1\n"


def test_a_kernel_of_another_machine_that_shares_the_home_is_not_listed(
    server: Server, daemon: Daemon
) -> None:
    found = external(server, daemon, "seen")
    (ours,) = (daemon.jupyter / "external_kernels").glob("*.json")
    content = {**json.loads(ours.read_bytes()), "kconnd_machine": "another"}
    theirs = ours.with_name("kconnd-another-seen.json")
    theirs.with_suffix(".part").write_text(json.dumps(content))
    theirs.with_suffix(".part").rename(theirs)
    assert [kernel["id"] for kernel in server.kernels()] == [found["id"]]


def test_what_the_daemon_refuses_is_told_and_is_no_fault_of_the_server(
    server: Server, daemon: Daemon
) -> None:
    found = external(server, daemon, "seen")
    daemon.kill()
    with pytest.raises(urllib.error.HTTPError, match="503") as told:
        server.ask("POST", f"api/kernels/{found['id']}/interrupt")
    assert "no kconnd daemon answers" in told.value.read().decode()
    daemon.start()


def test_front_ends_are_told_that_their_kernel_was_restarted_or_is_gone(
    server: Server, daemon: Daemon
) -> None:
    """By the daemon's own rules, or by somebody else: the server looks every few seconds."""
    found = server.ask("POST", "api/kernels", {"name": "kconnd-lab"})

    async def listen() -> list[str]:
        url = f"ws://127.0.0.1:{server.port}/api/kernels/{found['id']}/channels"
        connection = await websocket_connect(f"{url}?token={server.token}")
        os.kill(daemon.info("lab")["pid"], signal.SIGKILL)
        seen = [await _next_status(connection, {"restarting"})]
        await asyncio.to_thread(daemon.wait_state, "lab", "running")
        await connection.write_message(json.dumps(execute_request(uuid.uuid4().hex, "1")))
        seen.append(await _next_status(connection, {"busy"}))
        await asyncio.to_thread(daemon.post, "lab", "stop")
        seen.append(await _next_status(connection, {"dead"}))
        connection.close()
        return seen

    seen = IOLoop(make_current=False).run_sync(listen, timeout=60)
    assert seen == ["restarting", "busy", "dead"]
    assert server.kernels() == []


async def _next_status(connection: WebSocketClientConnection, wanted: set[str]) -> str:
    while True:
        message = json.loads(str(await connection.read_message()))
        state = message["content"].get("execution_state")
        if message["msg_type"] == "status" and state in wanted:
            return str(state)


@pytest.mark.parametrize(("name", "state"), [("seen", "running"), ("ends", "stopped")])
def test_shutting_one_down_does_what_its_profile_says(
    server: Server, daemon: Daemon, name: str, state: str
) -> None:
    found = external(server, daemon, name)
    server.ask("DELETE", f"api/kernels/{found['id']}")
    assert daemon.info(name)["state"] == state
    daemon.post(name, "start")
    attached = server.ask("POST", "api/kernels", {"name": f"kconnd-{name}"})
    server.ask("DELETE", f"api/kernels/{attached['id']}")
    assert daemon.info(name)["state"] == state


def test_the_servers_own_end_leaves_even_those_that_a_person_could_end(
    server: Server, daemon: Daemon
) -> None:
    server.ask("POST", "api/kernels", {"name": "kconnd-ends"})
    server.__exit__()
    assert daemon.info("ends")["state"] == "running"
    server.__enter__()


def test_a_failed_start_does_not_keep_the_server_from_ending(
    server: Server, daemon: Daemon, jupyter: dict[str, str]
) -> None:
    daemon.profile("broken", f"argv: [{sys.executable}, -c, 'raise SystemExit(3)']\n")
    daemon.ask("POST", "/v1/reload")
    install(jupyter)
    external(server, daemon, "seen")
    server.ask("POST", "api/kernels", {"name": "kconnd-lab"})
    for name in ("kconnd-broken", "no-such-spec"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            server.ask("POST", "api/kernels", {"name": name})
        caught.value.close()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
    assert daemon.state_of("lab") == daemon.state_of("seen") == "running"


def test_a_culled_kernel_is_left_running(
    home: Path, daemon: Daemon, jupyter: dict[str, str]
) -> None:
    daemon.profile("ends", f"{FORK}on_frontend_shutdown: stop\n")
    daemon.ask("POST", "/v1/reload")
    install(jupyter)
    culling = "--MappingKernelManager.cull_idle_timeout=1", "--MappingKernelManager.cull_interval=1"
    with Server(home, jupyter, f"--ServerApp.kernel_manager_class={CLASS}", *culling) as server:
        server.ask("POST", "api/kernels", {"name": "kconnd-ends"})
        wait_for(lambda: not server.kernels(), "it to be culled")
        assert daemon.info("ends")["state"] == "running"


def test_a_kernel_that_is_not_there_is_not_found(server: Server) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        server.ask("DELETE", f"api/kernels/{uuid.uuid4()}")
