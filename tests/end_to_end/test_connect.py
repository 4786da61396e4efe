"""The connection API with real kernels: they use what it writes, and it works inside of them."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ipykernel.connect
import pytest
import zmq

from kconnd import connect
from tests.conftest import wait_for
from tests.connection_folders import connection_folders
from tests.end_to_end.daemon import Daemon, run


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with connection_folders(monkeypatch) as folder:
        yield folder


CURVE = dict(zip(("curve_publickey", "curve_secretkey"), zmq.curve_keypair(), strict=True))
KINDS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "tcp": lambda _: {},
    "ipc": lambda _: {"transport": "ipc"},
    "ipv6": lambda _: {"ip": "::1"},
    "curve": lambda _: CURVE,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kernel_and_its_clients_use_what_is_written(home: Path, kind: str) -> None:
    """ipykernel binds what the file says, and a client of jupyter_client reads it."""
    path = connect.write_connection_file(home / "k.json", **KINDS[kind](home))
    program = "from ipykernel.kernelapp import launch_new_instance as go; go()"
    if kind == "ipv6":
        program = (
            "import zmq; plain = zmq.Context.__init__\n"
            "def init(self, *a, **k): plain(self, *a, **k); self.ipv6 = True\n"
            f"zmq.Context.__init__ = init\n{program}"
        )
    kernel = subprocess.Popen(
        [sys.executable, "-c", program, "-f", path],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert run(path, "print(6 * 7)") == "42\n"
        theirs = ipykernel.connect.get_connection_info(path, unpack=True)
        ours = connect.get_connection_info(path)
        assert isinstance(theirs, dict)
        theirs["key"] = theirs["key"].decode()
        assert {name: theirs[name] for name in ours} == ours
    finally:
        kernel.kill()
        kernel.wait()


def test_the_current_kernel_in_the_kernel_and_in_its_children(daemon: Daemon) -> None:
    daemon.profile("lab", f"python: {sys.executable}\n")
    daemon.profile("bash", f"argv: [{sys.executable}, -m, bash_kernel, -f, '{{connection_file}}']")
    daemon.start()
    info = daemon.post("lab", "start")
    code = (
        "import os, subprocess, sys\n"
        "from kconnd.connect import get_connection_file as file, get_connection_info\n"
        "print(file(), get_connection_info()['kernel_name'])\n"
        "os.environ['KCONND_CONNECTION_FILE'] = '/stale'\n"
        "print(file())"
    )
    path = info["connection_file"]
    assert run(path, code) == f"{path} python3\n{path}\n"
    child = f"{sys.executable} -c 'from kconnd import connect as c; print(c.get_connection_file())'"
    other = daemon.post("bash", "start")["connection_file"]
    assert run(other, child).strip() == other


def test_a_console_from_inside_the_kernel(daemon: Daemon) -> None:
    env = "env: {QT_QPA_PLATFORM: offscreen, QT_API: pyside6}\n"
    daemon.profile("lab", f"python: {sys.executable}\n{env}")
    daemon.start()
    path = daemon.post("lab", "start")["connection_file"]
    console = "c(['--style=monokai'], connection_file='lab')"
    code = f"from kconnd.connect import connect_qtconsole as c; p = {console}; print(p.pid)"
    pid = int(run(path, code))
    wait_for(lambda: daemon.info("lab")["clients"] == 1, "the console to attach", 60)
    words = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").split("\0")
    assert "--style=monokai" in words
    through_daemon = words.index("kconnd.jupyter.qtconsole_app") + 1
    assert words[through_daemon : through_daemon + 2] == ["lab", str(daemon.socket)]
    assert run(path, "p.terminate(); print(p.wait(30))") == "-15\n"
    assert daemon.state_of("lab") == "running"
