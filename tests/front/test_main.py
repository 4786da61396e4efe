"""The command ``kconnd-front``: its life in this process, and its exit status as a command."""

import asyncio
import contextlib
import http.client
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kconnd.front.main import _apply_settings, _reload_on, serve
from tests.conftest import LIMIT, wait_until
from tests.front.fake import FakeSystemd, build_owners


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="kf-", dir="/tmp") as path:
        yield Path(path)


class Manager:
    """Stands in for systemd: receives the states that a service reports (sd_notify(3))."""

    def __init__(self, receiver: socket.socket) -> None:
        self._receiver, self._states = receiver, set[str]()

    def has(self, state: str) -> bool:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._states.add(self._receiver.recv(4096, socket.MSG_DONTWAIT).decode())
        return state in self._states


@pytest.fixture
def manager(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(folder / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "notify"))
        yield Manager(receiver)


def get(path: Path, target: str) -> object:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(LIMIT)
    connection.sock.connect(str(path))
    connection.request("GET", target)
    reply = json.loads(connection.getresponse().read())
    connection.close()
    return reply


async def test_it_serves_from_ready_until_sigterm(folder: Path, manager: Manager) -> None:
    systemd = FakeSystemd({"kconnd@1000.service": "active"})
    path = folder / "front"
    serving = asyncio.create_task(serve(build_owners(folder, systemd=systemd), path))
    await wait_until(lambda: manager.has("READY=1"), "it to be ready")
    reply = await asyncio.to_thread(get, path, "/v1/health")
    assert isinstance(reply, dict)
    assert reply["owners"] == 1
    for state in ("STATUS=1 users have a daemon", "WATCHDOG=1"):
        await wait_until(partial(manager.has, state), state)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(serving, LIMIT)
    assert manager.has("STOPPING=1")


async def test_a_reload_reads_the_profiles_again(folder: Path, manager: Manager) -> None:
    owners = build_owners(folder)
    requested = asyncio.Event()
    reloading = asyncio.create_task(_reload_on(requested, owners))
    (folder / "configs").mkdir()
    user = pwd.getpwall()[1]
    boot = f"kernel: python3\nuser: {user.pw_name}\nstart: boot\n"
    (folder / "configs" / "lab.yaml").write_text(boot)
    requested.set()
    await wait_until(lambda: manager.has("READY=1"), "the reload")
    assert manager.has("RELOADING=1")
    assert await owners.active_uids() == [user.pw_uid]
    assert list((await owners.machine.profiles()).profiles) == ["lab"]
    reloading.cancel()


async def test_settings_reach_slices_and_the_server(folder: Path) -> None:
    site: Any = SimpleNamespace(server=SimpleNamespace(max_connections=0))
    systemd = FakeSystemd({"kconnd-1000.slice": "active"})
    owners = build_owners(folder, "connections: 7\nquotas: {memory: 1G}\n", systemd)
    applying = asyncio.create_task(_apply_settings(owners, site))
    await wait_until(lambda: systemd.memory, "the limit")
    assert systemd.memory == {"kconnd-1000.slice": 1 << 30}
    assert site.server.max_connections == 7
    applying.cancel()


def test_a_command_line_that_makes_no_sense_is_refused() -> None:
    command = [sys.executable, "-m", "kconnd.front.main", "--put-aside", "ada"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if os.geteuid() == 0:
        assert (done.returncode, done.stderr) == (
            2,
            "kconnd-front: 'ada' is not the uid of a user\n  'id -u NAME' prints the uid\n",
        )
    else:
        assert (done.returncode, "only root can" in done.stderr) == (5, True)
