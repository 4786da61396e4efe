"""A real daemon in folders of its own, seen from the outside.

It is asked over its socket by http.client, so that these tests do not depend on the client
that kconnd brings.
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
from types import TracebackType
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
    """Give code that makes a file once an interrupt of it will be caught, and sets x then.

    A kernel says that it is busy before that: an interrupt could still come too early. And one
    that comes just before a sleep begins is seen when that is over, so it is no long one.
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
    """Starts, asks and ends a daemon.

    Parameters
    ----------
    folder : Path
        A short one: paths of Unix sockets are limited.
    runtime : Path, optional
        Where it keeps its sockets, if not in there.
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
        self.turns = folder / "turns.jsonl"  # where a measured one reports, see slow_turns.py
        self.watches = False  # most tests say themselves when profiles are read

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
        """Start it, through another command if need be, and wait until it is ``ready``.

        Or until it is ``listening``: it then may still read profiles and take up kernels.
        """
        there = self.is_ready if until == "ready" else self.healthy
        with self.log.open("ab") as log:
            command = [*through, *self.command(*more)]
            self.process = subprocess.Popen(command, stderr=log, **options)
        wait_for(lambda: self.process.poll() is not None or there(), "the daemon")  # type: ignore[union-attr]  # just set
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
        """End the daemon; its kernels are another matter."""
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
        found: dict[str, Any] = self.get(f"/v1/kernels/{quote(name)}")
        return found

    def post(self, name: str, verb: str, **body: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("POST", f"/v1/kernels/{quote(name)}/{verb}", body)
        return found

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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the daemon and every kernel, by pid, also after a failed test."""
        if self.process is not None:
            self.kill()
        for handle in self._handles():
            send_signal(ProcessId(*handle["kernel"]), signal.SIGKILL)
            _wait_for_end(ProcessId(*handle["shim"]))

    def _handles(self) -> Iterator[dict[str, Any]]:
        """Give all processes on record: by the shims' facts, and by the kernels' records."""
        facts = (self.runtime / "live").glob("*.shim.json")
        for path in (*facts, *self.state.glob("kernels/*/record.json")):
            with contextlib.suppress(OSError, ValueError):
                content = json.loads(path.read_bytes())
                if found := content.get("handle", content):
                    yield found


def _wait_for_end(shim: ProcessId) -> None:
    """Wait for a shim, which writes how its kernel ended, so that folders can be removed."""
    wait_for(lambda: not is_alive(shim), "a shim to end")


@contextlib.contextmanager
def client(connection_file: str) -> Iterator[BlockingKernelClient]:
    """Attach a real Jupyter client."""
    context = zmq.Context()
    context.ipv6 = True
    found = BlockingKernelClient(connection_file=connection_file, context=context)
    found.load_connection_file()
    found.start_channels()
    try:
        found.wait_for_ready(timeout=30)
        yield found
    finally:
        found.stop_channels()
        context.term()


def run(connection_file: str, code: str) -> str:
    """Run code on a kernel and give what it printed; an error of it is raised."""
    with client(connection_file) as attached:
        return run_on(attached, code)


def begin(attached: BlockingKernelClient, code: str) -> None:
    """Start code that prints at once and goes on, and wait until it has printed.

    A kernel is also busy with other requests, such as those by which a client attaches, and
    ipykernel ignores an interrupt that comes before the cell runs.
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
