"""Runs a real daemon in a temporary folder, and sends it requests.

The requests use http.client, so that these tests do not depend on `kconnd.client`.
"""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import zmq
from jupyter_client.blocking.client import BlockingKernelClient

from kconnd.system.process.processes import ProcessId, is_alive, send_signal
from tests.conftest import wait_for

COMMAND = (sys.executable, "-W", "error", "-m", "kconnd.daemon.main")
IPYKERNEL = f"python: {sys.executable}\n"
SMALL_KERNEL = Path(__file__).with_name("small_kernel.py")
SMALL = f"argv: [{sys.executable}, {SMALL_KERNEL}, '{{connection_file}}']\ntransport: ipc\n"


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float = 90) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def waiting_cell(gate: Path) -> str:
    """Return code that touches a file once it can be interrupted, and sets x when it is.

    The busy status of a kernel comes earlier, so an interrupt that waits for it can be too early.
    An interrupt right before a sleep takes effect after the sleep, so each sleep is short.
    """
    return (
        "import pathlib, time\n"
        f"try:\n    pathlib.Path({str(gate)!r}).touch()\n"
        "    for _ in range(600): time.sleep(0.1)\n"
        "except KeyboardInterrupt: x = 1"
    )


class DaemonError(Exception):
    """The daemon answered with an error."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(f"{status}: {error}")
        self.status, self.code = status, error["code"]
        self.message, self.hint = error["message"], error["hint"]
        self.output = error.get("output", "")


class Daemon:
    """Starts a daemon, sends it requests and stops it.

    Parameters
    ----------
    folder : Path
        The folder of its files. The path is short, because the paths of Unix sockets are limited.
    runtime : Path, optional
        The folder of its sockets; by default below ``folder``.
    """

    def __init__(self, folder: Path, runtime: Path | None = None) -> None:
        self.folder = folder
        self.configs, self.runtime, self.state = folder / "c", runtime or folder / "r", folder / "s"
        self.jupyter = folder / "jupyter"
        self.socket = self.runtime / "kconnd.sock"
        self.configs.mkdir(exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "daemon.log"
        self.program: tuple[str, ...] = COMMAND
        self.turns = folder / "turns.jsonl"  # of a daemon that measures them, see slow_turns.py
        self.watches = False  # most tests request each reload

    def profile(self, name: str, text: str) -> None:
        """Write a profile file whole."""
        part = self.configs / f".{name}"
        part.write_text(text, encoding="utf-8")
        part.rename(self.configs / f"{name}.yaml")

    def command(self, *more: str) -> list[str]:
        return [
            *self.program,
            f"--configs={self.configs}",
            f"--runtime-dir={self.runtime}",
            f"--state-dir={self.state}",
            f"--jupyter-dir={self.jupyter}",
            *([] if self.watches else ["--no-watch"]),
            *more,
        ]

    def start(
        self, *more: str, through: tuple[str, ...] = (), until: str = "ready", **options: Any
    ) -> Self:
        """Start it, optionally through another command, and wait until it is ``ready``.

        A daemon that is only ``listening`` may still be reading profiles and adopting kernels.
        """
        is_up = self.is_ready if until == "ready" else self.healthy
        with self.log.open("ab") as log:
            command = [*through, *self.command(*more)]
            self.process = subprocess.Popen(command, stderr=log, **options)
        wait_for(lambda: self.process.poll() is not None or is_up(), "the daemon")  # type: ignore[union-attr]  # just set
        assert self.process.poll() is None, self.said()
        return self

    def healthy(self) -> bool:
        try:
            return bool(self.get("/v1/health"))
        except OSError:
            return False

    def is_ready(self) -> bool:
        try:
            return bool(self.get("/v1/health")["ready"])
        except OSError:
            return False

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send the daemon a signal and wait for its end; its kernels survive."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.process = None
        return code

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = Connection(self.socket)
        with contextlib.closing(connection):
            connection.request(method, path, json.dumps(body) if body is not None else None)
            reply = connection.getresponse()
            content = json.loads(reply.read())
        if reply.status >= http.client.BAD_REQUEST:
            raise DaemonError(reply.status, content["error"])
        return content

    def get(self, path: str) -> Any:
        return self.ask("GET", path)

    def info(self, name: str) -> dict[str, Any]:
        state: dict[str, Any] = self.get(f"/v1/kernels/{quote(name)}")
        return state

    def post(self, name: str, verb: str, **body: Any) -> dict[str, Any]:
        state: dict[str, Any] = self.ask("POST", f"/v1/kernels/{quote(name)}/{verb}", body)
        return state

    @contextlib.contextmanager
    def stream(self, path: str) -> Iterator[Iterator[dict[str, Any]]]:
        """Open a stream of JSON lines."""
        connection = Connection(self.socket)
        with contextlib.closing(connection):
            connection.request("GET", path)
            reply = connection.getresponse()
            yield (json.loads(line) for line in reply)

    def record(self, name: str) -> Path:
        return self.state / "kernels" / name / "record.json"

    def shim_of(self, name: str) -> ProcessId:
        return ProcessId(*json.loads(self.record(name).read_bytes())["handle"]["shim"])

    def state_of(self, name: str) -> str:
        return str(self.info(name)["state"])

    def wait_state(self, name: str, state: str) -> dict[str, Any]:
        wait_for(lambda: self.state_of(name) == state, f"{name} to be {state}")
        return self.info(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Kill the daemon and every kernel by pid, also after a failed test."""
        if self.process is not None:
            self.kill()
        for handle in self._handles():
            send_signal(ProcessId(*handle["kernel"]), signal.SIGKILL)
            _wait_for_end(ProcessId(*handle["shim"]))

    def _handles(self) -> Iterator[dict[str, Any]]:
        """Read the handles of all kernels, from the shims' facts and the kernels' records."""
        facts = (self.runtime / "live").glob("*.shim.json")
        for path in (*facts, *self.state.glob("kernels/*/record.json")):
            with contextlib.suppress(OSError, ValueError):
                content = json.loads(path.read_bytes())
                if handle := content.get("handle", content):
                    yield handle


def _wait_for_end(shim: ProcessId) -> None:
    """Wait until a shim has written its kernel's exit and ended, so that folders can be removed."""
    wait_for(lambda: not is_alive(shim), "a shim to end")


@contextlib.contextmanager
def client(connection_file: str) -> Iterator[BlockingKernelClient]:
    """Attach a client of jupyter_client to a kernel."""
    context = zmq.Context()
    context.ipv6 = True
    attached = BlockingKernelClient(connection_file=connection_file, context=context)
    attached.load_connection_file()
    attached.start_channels()
    try:
        attached.wait_for_ready(timeout=30)
        yield attached
    finally:
        attached.stop_channels()
        context.term()


def run(connection_file: str, code: str) -> str:
    """Run code on a kernel and return its output; fail if the code raises."""
    with client(connection_file) as attached:
        return run_on(attached, code)


def work_for_ever(daemon: Daemon, name: str) -> None:
    """Keep a small kernel busy.

    The status ``busy`` is lost if the daemon has not subscribed yet, so the cell is sent until the
    daemon knows of it.
    """
    with client(daemon.info(name)["connection_file"]) as attached:

        def is_busy() -> bool:
            attached.execute("work")
            return bool(daemon.info(name)["execution_state"] == "busy")

        wait_for(is_busy, "the cell")


def begin(attached: BlockingKernelClient, code: str) -> None:
    """Start a cell that prints first and then runs on, and wait for its output.

    The busy status is no proof that the cell is running: a kernel is also busy with other requests,
    such as those by which a client attaches, and ipykernel ignores an interrupt before the cell.
    """
    request = attached.execute(code)
    while True:
        message = attached.get_iopub_msg(timeout=30)
        if message["msg_type"] == "stream" and message["parent_header"]["msg_id"] == request:
            return


def run_on(attached: BlockingKernelClient, code: str) -> str:
    printed: list[str] = []

    def collect(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])

    reply = attached.execute_interactive(code, timeout=30, output_hook=collect)
    assert reply["content"]["status"] == "ok", reply["content"]
    return "".join(printed)
