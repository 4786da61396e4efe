"""What else starts kernels or looks after processes, each as it is used."""

import asyncio
import contextlib
import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import psutil
from jupyter_client.ioloop.manager import AsyncIOLoopKernelManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager

from tests.bench.subjects import AtOnce, Started, ask_who, runtime_folder
from tests.conftest import wait_for

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
SILENT: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@contextlib.contextmanager
def jupyters_runtime() -> Iterator[Path]:
    """Have Jupyter's own ways keep sockets and history where kconnd does; gives that of sockets."""
    folder = runtime_folder()
    before = dict(os.environ)
    os.environ["JUPYTER_RUNTIME_DIR"] = str(folder)
    try:
        with tempfile.TemporaryDirectory(prefix="kb-", dir="/tmp") as history:
            os.environ["IPYTHONDIR"] = history
            yield folder
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


def plain_ipykernel(folder: Path) -> Started:
    """Run ``python -m ipykernel_launcher`` without any launcher."""
    name = secrets.token_hex(4)
    ports = {f"{channel}_port": at for at, channel in enumerate(CHANNELS, 1)}
    connection = {"transport": "ipc", "ip": str(folder / name), "key": name, **ports}
    file = folder / f"{name}.json"
    file.write_text(json.dumps({**connection, "signature_scheme": "hmac-sha256"}))
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", str(file)]
    with contextlib.ExitStack() as stack:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **SILENT)
        stack.callback(process.wait)
        stack.callback(process.kill)
        ask_who(connection)
        taken = time.perf_counter() - begin
        return Started(taken, lambda: (process.pid,), stack.pop_all().close)


def kernel_manager() -> Started:
    """Start a kernel as Jupyter's own clients do."""
    with contextlib.ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        begin = time.perf_counter()
        # Without a file to be beside, its sockets would be in the working folder, on a disk.
        manager = AsyncKernelManager(transport="ipc", connection_file=_new_connection_file())
        stack.callback(lambda: runner.run(_end_by(manager)))
        runner.run(_start_by(manager))
        taken = time.perf_counter() - begin
        return Started(taken, partial(_process_of, manager), stack.pop_all().close)


def _new_connection_file() -> str:
    return str(Path(os.environ["JUPYTER_RUNTIME_DIR"], f"{secrets.token_hex(4)}.json"))


async def _start_by(manager: AsyncKernelManager) -> None:
    await manager.start_kernel(**SILENT)
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=120)
    finally:
        client.stop_channels()


async def _end_by(manager: AsyncKernelManager) -> None:
    await manager.shutdown_kernel(now=True)


def _process_of(manager: AsyncKernelManager) -> tuple[int]:
    pid: int = manager.provisioner.pid  # type: ignore[union-attr]  # there is one since it started
    return (pid,)


class IpcManager(AsyncIOLoopKernelManager):
    """What the manager of many makes, with the wire that kconnd uses."""

    transport = "ipc"


async def many_by_manager(count: int) -> AtOnce:
    """Start kernels at once with Jupyter's manager of many, and end them."""
    managers = AsyncMultiKernelManager(kernel_manager_class=f"{__name__}.IpcManager")

    async def one() -> None:
        kernel = await managers.start_kernel(**SILENT)
        client = managers.get_kernel(kernel).client()
        client.start_channels()
        try:
            await client.wait_for_ready(timeout=120)  # type: ignore[misc]  # it is a coroutine
        finally:
            client.stop_channels()

    begin = time.perf_counter()
    try:
        found = await asyncio.gather(*(one() for _ in range(count)), return_exceptions=True)
        taken = time.perf_counter() - begin
    finally:
        await managers.shutdown_all(now=True)
    failures = [f"{type(error).__name__}: {error}" for error in found if error is not None]
    return AtOnce(taken, failures=failures)


class JupyterServer:
    """A Jupyter server, asked over its REST interface as it is by default: TCP on loopback."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kb-", dir="/tmp"))
        self.runtime = runtime_folder()
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
            env={
                **os.environ,
                "JUPYTER_TOKEN": self.token,
                "JUPYTER_RUNTIME_DIR": str(self.runtime),
                "HOME": str(self.folder),
            },
            stdin=subprocess.DEVNULL,
            **SILENT,
        )
        try:
            wait_for(self._answers, "the Jupyter server", 60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)  # it ends its kernels first
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for folder in (self.folder, self.runtime):
            shutil.rmtree(folder, ignore_errors=True)

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
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(connection):
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, self.headers)
            reply = connection.getresponse()
            content = reply.read()
        if reply.status >= http.client.BAD_REQUEST:
            raise RuntimeError(f"the Jupyter server answered {method} {path} with {reply.status}")
        return json.loads(content) if content else None

    def start(self) -> Started:
        """Start a kernel by REST, and ask it."""
        begin = time.perf_counter()
        kernel = self.ask("POST", "/api/kernels", {"name": "python3"})["id"]
        try:
            ask_who(json.loads(self._connection_file(kernel).read_bytes()))
            taken = time.perf_counter() - begin
        except BaseException:
            self._end(kernel)
            raise
        return Started(taken, partial(self._find, kernel), partial(self._end, kernel))

    def _end(self, kernel: str) -> None:
        self.ask("DELETE", f"/api/kernels/{kernel}")

    def _find(self, kernel: str) -> tuple[int]:
        file = str(self._connection_file(kernel))
        for process in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if file in process.cmdline():
                    return (process.pid,)
        raise LookupError(f"kernel {kernel} of the Jupyter server does not run")

    def _connection_file(self, kernel: str) -> Path:
        return self.runtime / f"kernel-{kernel}.json"


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
        process = subprocess.Popen([binaries / "supervisord", "-c", config], **SILENT)
        command = [str(binaries / "supervisorctl"), "-c", str(config), "status"]
        try:
            wait_for((Path(folder) / "s.sock").exists, "supervisord")
            yield command
        finally:
            process.terminate()
            process.wait()
