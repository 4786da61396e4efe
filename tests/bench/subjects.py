"""What is timed: ways to start a kernel and to ask about one, each as it is used.

A start is timed until the kernel has answered ``kernel_info_request``, whoever asked it: the
daemon, the kernel manager, or the client that is told to wait for it.
"""

import asyncio
import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import zmq
from jupyter_client.ioloop.manager import AsyncIOLoopKernelManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager
from jupyter_client.session import Session

from tests.conftest import wait_for
from tests.end_to_end.daemon import Daemon

PYTHON = f"python: {sys.executable}\n"
QUICK_AGAIN = "restart: {backoff: 10ms, backoff_max: 10ms}\n"


class Kconnd:
    """A daemon with profiles to start: cold, forked, and kept warm."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kb-", dir="/tmp"))
        self.daemon = Daemon(self.folder)

    def __enter__(self) -> Self:
        for name, more in (
            ("cold", "launcher: local\n"),
            ("fork", "launcher: fork\n"),
            ("warm", "launcher: fork\nwarm: 1\n"),
            ("again", f"launcher: fork\n{QUICK_AGAIN}"),
        ):
            self.daemon.profile(name, PYTHON + more)
        self.daemon.start()
        self.start("fork")
        self.stop("fork")
        self.warm_up()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self.stop_all()
        self.daemon.__exit__(None, None, None)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, name: str) -> float:
        """Start a kernel; seconds until it has answered."""
        begin = time.perf_counter()
        self.daemon.post(name, "start")
        return time.perf_counter() - begin

    def start_and_ask(self, name: str) -> float:
        """Start a kernel; seconds until a client of its own has had a reply."""
        begin = time.perf_counter()
        found = self.daemon.post(name, "start")
        ask_who(json.loads(Path(found["connection_file"]).read_bytes()))
        return time.perf_counter() - begin

    def stop(self, name: str) -> None:
        """Stop a kernel and wait for it."""
        self.daemon.post(name, "stop")

    def stop_all(self) -> None:
        """End all kernels, quickly."""
        for kernel in self.daemon.get("/v1/kernels")["kernels"]:
            if kernel["pid"]:
                self.daemon.ask("POST", f"/v1/kernels/{kernel['name']}/stop", {"wait": False})
        wait_for(lambda: not self.pids(), "all kernels to end", 120)

    def pids(self) -> list[int]:
        """List the kernels' processes."""
        kernels = self.daemon.get("/v1/kernels")["kernels"]
        return [kernel["pid"] for kernel in kernels if kernel["pid"]]

    def warm_up(self) -> None:
        """Wait until a kernel is ready to be handed over."""
        wait_for(lambda: self.daemon.get("/v1/health")["warm"] == 1, "a warm kernel")
        time.sleep(0.3)  # until the daemon and the kernel have nothing more to do

    async def start_many(self, names: list[str]) -> float:
        """Start kernels at once, a connection each; seconds until the last has answered."""
        begin = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(asyncio.to_thread(self.daemon.post, name, "start"))
        return time.perf_counter() - begin


def ask_who(connection: dict[str, Any]) -> None:
    """Send ``kernel_info_request`` with a new client, and wait for the reply."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    session = Session(key=connection["key"].encode())
    dealer = context.socket(zmq.DEALER)
    dealer.linger, dealer.reconnect_ivl = 0, 1
    separator = "-" if connection["transport"] == "ipc" else ":"
    where = f"{connection['ip']}{separator}{connection['shell_port']}"
    dealer.connect(f"{connection['transport']}://{where}")
    session.send(dealer, "kernel_info_request")
    if not dealer.poll(60_000):
        raise TimeoutError("no reply from a kernel")
    dealer.recv_multipart()
    dealer.close()


def plain_ipykernel(folder: Path) -> float:
    """Run ``python -m ipykernel_launcher`` without any launcher."""
    name = secrets.token_hex(4)
    ports = {f"{channel}_port": at for at, channel in enumerate(CHANNELS, 1)}
    connection = {"transport": "ipc", "ip": str(folder / name), "key": name, **ports}
    file = folder / f"{name}.json"
    file.write_text(json.dumps({**connection, "signature_scheme": "hmac-sha256"}))
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "ipykernel_launcher", "-f", file],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ask_who(connection)
    taken = time.perf_counter() - begin
    process.kill()
    process.wait()
    return taken


CHANNELS = ("shell", "iopub", "stdin", "control", "hb")


async def kernel_manager() -> float:
    """Start a kernel as Jupyter's own clients do."""
    begin = time.perf_counter()
    manager = AsyncKernelManager(transport="ipc")
    await manager.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = manager.client()
    client.start_channels()
    await client.wait_for_ready(timeout=60)
    taken = time.perf_counter() - begin
    client.stop_channels()
    await manager.shutdown_kernel(now=True)
    return taken


class IpcManager(AsyncIOLoopKernelManager):
    """What the manager of many makes, with the wire that kconnd uses."""

    transport = "ipc"


async def many_by_manager(count: int) -> float:
    """Start kernels at once with Jupyter's manager of many; seconds until all have answered."""
    managers = AsyncMultiKernelManager(kernel_manager_class=f"{__name__}.IpcManager")
    begin = time.perf_counter()

    async def one() -> None:
        kernel = await managers.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        client = managers.get_kernel(kernel).client()
        client.start_channels()
        await client.wait_for_ready(timeout=120)  # type: ignore[misc]  # it is a coroutine
        client.stop_channels()

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())
    taken = time.perf_counter() - begin
    await managers.shutdown_all(now=True)
    return taken


class JupyterServer:
    """A Jupyter server, asked over its REST interface as it is by default: TCP on loopback."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kb-", dir="/tmp"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.token = secrets.token_hex()

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser"),
                f"--port={self.port}",
                "--ServerApp.port_retries=0",
                f"--ServerApp.root_dir={self.folder}",
                "--ServerApp.jpserver_extensions={}",
                "--log-level=ERROR",
            ],
            env={**os.environ, "JUPYTER_TOKEN": self.token, "HOME": str(self.folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(self._answers, "the Jupyter server", 60)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            return bool(self.ask("GET", "/api"))
        except OSError:
            return False

    @property
    def headers(self) -> dict[str, str]:
        """What makes a request admitted."""
        return {"Authorization": f"token {self.token}"}

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Make one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        with contextlib.closing(connection):
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, self.headers)
            content = connection.getresponse().read()
        return json.loads(content) if content else None

    def start(self) -> float:
        """Start a kernel by REST; seconds until the server says that it is idle."""
        begin = time.perf_counter()
        kernel = self.ask("POST", "/api/kernels", {"name": "python3"})["id"]
        found = Path(self._runtime()) / f"kernel-{kernel}.json"
        ask_who(json.loads(found.read_bytes()))
        taken = time.perf_counter() - begin
        self.ask("DELETE", f"/api/kernels/{kernel}")
        return taken

    def _runtime(self) -> str:
        return str(self.folder / ".local" / "share" / "jupyter" / "runtime")


@contextlib.contextmanager
def supervisor() -> Iterator[list[str]]:
    """Run supervisord with one program; gives the command that asks about it."""
    with tempfile.TemporaryDirectory(prefix="kb-", dir="/tmp") as folder:
        config = Path(folder) / "supervisord.conf"
        config.write_text(
            f"[unix_http_server]\nfile={folder}/s.sock\n"
            f"[supervisord]\nlogfile={folder}/log\npidfile={folder}/pid\nnodaemon=true\n"
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory="
            "supervisor.rpcinterface:make_main_rpcinterface\n"
            f"[supervisorctl]\nserverurl=unix://{folder}/s.sock\n"
            "[program:sleeper]\ncommand=sleep 1000\n"
        )
        binaries = Path(sys.executable).parent
        process = subprocess.Popen(
            [binaries / "supervisord", "-c", config],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        command = [str(binaries / "supervisorctl"), "-c", str(config), "status"]
        try:
            wait_for((Path(folder) / "s.sock").exists, "supervisord")
            yield command
        finally:
            process.terminate()
            process.wait()
