"""``kconnd-ctl run`` on a kernel that the daemon calls busy: not one message is sent to it."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from tests.cli.fake_daemon import FakeDaemon
from tests.conftest import wait_for

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[tuple[zmq.SyncSocket, Path]]:
    """Bind a kernel's shell channel and write the connection file of that kernel."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        ports = dict.fromkeys((f"{channel}_port" for channel in CHANNELS), 1)  # nobody is there
        ports["shell_port"] = socket.bind_to_random_port("tcp://127.0.0.1")
        connection = {"transport": "tcp", "ip": "127.0.0.1", "key": "k", **ports}
        connection["signature_scheme"] = "hmac-sha256"
        file = tmp_path / "kernel-a.json"
        file.write_text(json.dumps(connection), encoding="utf-8")
        yield socket, file


def test_nothing_is_sent_before_the_daemon_says_idle(
    daemon: FakeDaemon, shell: tuple[zmq.SyncSocket, Path]
) -> None:
    socket, file = shell
    daemon.add("a", connection_file=str(file), execution_state="busy")
    command = [sys.executable, "-m", "kconnd.cli.main", "run", "a", "-c", "1"]
    with contextlib.ExitStack() as stack:
        env = {**os.environ, "KCONND_SOCKET": str(daemon.path)}
        run = stack.enter_context(subprocess.Popen(command, env=env))
        stack.callback(run.kill)
        looks = ("GET", "/v1/kernels/a")
        wait_for(lambda: daemon.asked().count(looks) > 1, "the run to ask the daemon twice")
        assert not socket.poll(0)
        daemon.kernels["a"]["execution_state"] = "idle"
        assert socket.poll(30_000)
        frames = socket.recv_multipart()
    assert b"kernel_info_request" in b"".join(frames)
