"""Work that kernels do while their daemon is killed: each counts until a gate opens.

How it works. A `Worker` has a way to begin and a way to tell what became of it. Three ways are
tried, since each shows on other channels: a cell on the main shell, a request on a subshell, and
a thread that a cell has left behind. Those who work in a subshell or a thread have no client
meanwhile, and a profile that stops idle kernels soon: only that they work keeps them.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from jupyter_client.blocking.client import BlockingKernelClient

COUNTING = """
import os, time
count = 0
while not os.path.exists({gate!r}):
    count += 1
    time.sleep(0.01)
count
"""
COUNTING_IN_R = """
count <- 0
while (!file.exists({gate})) {{ count <- count + 1; Sys.sleep(0.01) }}
count
"""
# A thread that computes: one that only sleeps is no work that anybody can see from outside.
COUNTING_THREAD = """
import os, threading, time
count = 0
def work():
    global count
    while not os.path.exists({gate!r}):
        count += 1
        sum(range(20000))
        time.sleep(0.005)
thread = threading.Thread(target=work)
thread.start()
"""
COUNTED = "thread.join()\ncount"
PATIENCE_S = 60


class Worker(Protocol):
    """One kernel's work."""

    def begin(self, file: str) -> None:
        """Start it, by a client with this connection file."""
        ...

    def result(self, file: str) -> int | None:
        """Wait for what it came to; None where it was lost."""
        ...

    def end(self) -> None:
        """Disconnect."""
        ...


@contextlib.contextmanager
def attached(file: str) -> Iterator[BlockingKernelClient]:
    """Attach a Jupyter client for a while."""
    client = BlockingKernelClient(connection_file=file)
    client.load_connection_file()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE_S)
        yield client
    finally:
        client.stop_channels()
        client.context.term()


def number_of(client: BlockingKernelClient, request: str) -> int | None:
    """Wait for the number that a request is to give; None where it never comes."""
    with contextlib.suppress(Exception):  # queue.Empty: it is lost
        while True:
            message = client.get_iopub_msg(timeout=PATIENCE_S)
            ours = (message["parent_header"] or {}).get("msg_id") == request
            if ours and message["msg_type"] in {"execute_result", "display_data"}:
                return int(message["content"]["data"]["text/plain"].removeprefix("[1] "))
    return None


@dataclass
class Cell:
    """A cell of a client that stays attached."""

    code: str
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _client: BlockingKernelClient | None = None
    _request: str = ""

    def begin(self, file: str) -> None:
        self._client = self._stack.enter_context(attached(file))
        self._request = self._client.execute(self.code)

    def result(self, file: str) -> int | None:  # noqa: ARG002  # it is attached already
        return number_of(self._client, self._request) if self._client else None

    def end(self) -> None:
        self._stack.close()


@dataclass
class Thread:
    """A thread of the kernel's own; nobody is attached while it works."""

    gate: Path

    def begin(self, file: str) -> None:
        with attached(file) as client:
            client.execute(COUNTING_THREAD.format(gate=str(self.gate)))
            client.get_shell_msg(timeout=PATIENCE_S)

    def result(self, file: str) -> int | None:
        with contextlib.suppress(Exception), attached(file) as client:
            return number_of(client, client.execute(COUNTED))
        return None

    def end(self) -> None:
        pass


@dataclass
class Subshell:
    """A request on a subshell (ipykernel 7); nobody is attached while it is carried out."""

    gate: Path

    def begin(self, file: str) -> None:
        with attached(file) as client:
            control = client.control_channel
            create = client.session.msg("create_subshell_request")
            control.send(create)
            reply = control.get_msg(timeout=PATIENCE_S)
            request = client.session.msg("execute_request", _silent(self._code()))
            request["header"]["subshell_id"] = reply["content"]["subshell_id"]
            client.shell_channel.send(request)
            _wait_for_start(client, request["header"]["msg_id"])

    def _code(self) -> str:
        return COUNTING.format(gate=str(self.gate)).replace("count", "in_subshell")

    def result(self, file: str) -> int | None:
        with contextlib.suppress(Exception), attached(file) as client:
            deadline = time.monotonic() + PATIENCE_S
            while time.monotonic() < deadline:
                found = number_of(client, client.execute("globals().get('in_subshell', 0)"))
                if found:
                    return found
        return None

    def end(self) -> None:
        pass


def _silent(code: str) -> dict[str, Any]:
    return {"code": code, "silent": False, "store_history": False, "allow_stdin": False}


def _wait_for_start(client: BlockingKernelClient, request: str) -> None:
    while True:
        message = client.get_iopub_msg(timeout=PATIENCE_S)
        parent = message["parent_header"] or {}
        if parent.get("msg_id") == request and message["msg_type"] == "execute_input":
            return


def cell(gate: Path) -> Worker:
    """Give a cell of Python."""
    return Cell(COUNTING.format(gate=str(gate)))


def cell_in_r(gate: Path) -> Worker:
    """Give a cell of R, during which IRkernel answers no heartbeat."""
    return Cell(COUNTING_IN_R.format(gate=json.dumps(str(gate))))
