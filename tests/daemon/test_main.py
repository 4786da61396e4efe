"""The daemon's life from its command line to its end, and how its tasks go on after a fault."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kconnd.client import Client
from kconnd.daemon.main import (
    MAX_STUCK_FILES,
    _load,
    _lock_state,
    _prepare_folders,
    _reload_when,
    _until_either,
    keep_going,
    serve,
)
from kconnd.daemon.options import Options, parse_options
from kconnd.errors import LockedError, ProfileError
from kconnd.system.files.private import take_lock
from kconnd.system.hung_calls import BeginStep, StuckError
from kconnd.system.process.processes import pid_namespace
from tests.conftest import LIMIT, wait_until

OURS = f"kconnd, pid 7 of {os.uname().nodename}\n{pid_namespace()}"  # in a lock of this machine


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="kd-", dir="/tmp") as path:
        yield Path(path)


def words(folder: Path, *more: str) -> list[str]:
    """Give a command line that keeps a daemon to one folder."""
    places = {"runtime-dir": "r", "state-dir": "s", "configs": "c", "jupyter-dir": "j"}
    return [*(f"--{option}={folder / name}" for option, name in places.items()), *more]


def options_for(folder: Path, *more: str) -> Options:
    return parse_options(words(folder, *more))


async def test_a_task_that_failed_starts_again(caplog: pytest.LogCaptureFixture) -> None:
    runs: list[int] = []

    async def work() -> None:
        runs.append(len(runs))
        if len(runs) < 3:
            raise RuntimeError("a fault")

    await keep_going(work, 0.0)
    assert runs == [0, 1, 2]
    assert caplog.text.count("a fault in the daemon") == 2


async def test_a_daemon_that_cannot_work_ends_with_the_reason() -> None:
    async def fail() -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        await _until_either(asyncio.create_task(fail()), asyncio.Event())


async def test_a_daemon_ends_when_it_is_asked_to_and_leaves_its_tasks_to_the_caller() -> None:
    ending = asyncio.Event()
    work = asyncio.create_task(asyncio.Event().wait())
    ending.set()
    await _until_either(work, ending)  # type: ignore[arg-type]  # its result is not used
    assert not work.done()
    work.cancel()


async def test_each_request_reloads_the_profiles_once_also_after_a_refusal() -> None:
    requested = asyncio.Event()
    reloads: list[int] = []

    async def reload() -> str:
        reloads.append(len(reloads))
        if len(reloads) == 1:
            raise ProfileError("reading the profiles: 16 files do not answer")
        return "no difference"

    kernels: Any = SimpleNamespace(reload=reload)
    task = asyncio.create_task(_reload_when(requested, kernels))
    for count in (1, 2):
        requested.set()
        await wait_until(lambda: len(reloads) == count, "the reload")  # noqa: B023  # at once
        assert not requested.is_set()
    task.cancel()


# --- the profiles


class Disk:
    """Runs each step, unless it is one of the first, which hang."""

    def __init__(self, hanging: int) -> None:
        self.hanging = hanging

    async def run(self, work: Callable[[BeginStep], object]) -> object:
        if self.hanging:
            self.hanging -= 1
            raise StuckError("reading /far/lab.yaml")
        return work(lambda _step: None)


def world_of(disk: Disk) -> Any:
    return SimpleNamespace(paths=disk, user=SimpleNamespace(uid=os.geteuid(), name="me"))


async def test_profiles_are_read_without_the_files_that_hang(folder: Path) -> None:
    (folder / "c").mkdir()
    (folder / "c/lab.yaml").write_text("kernel: python3\n")
    loaded = await _load(options_for(folder), world_of(Disk(hanging=2)))
    assert list(loaded.profiles) == ["lab"]


async def test_profiles_of_which_too_many_hang_are_not_read(folder: Path) -> None:
    disk = Disk(hanging=MAX_STUCK_FILES)
    with pytest.raises(ProfileError, match="16 files or folders of them do not answer"):
        await _load(options_for(folder), world_of(disk))
    assert disk.hanging == 0


# --- the folders and their locks


def test_the_folders_are_made_and_private(folder: Path) -> None:
    _prepare_folders(options_for(folder), "ada")
    for path in (folder / "r", folder / "r/ipc", folder / "r/live", folder / "s"):
        assert path.stat().st_mode & 0o777 == 0o700


def test_the_runtime_folder_of_an_earlier_account_is_renamed(folder: Path) -> None:
    _prepare_folders(options_for(folder), "ada")
    (folder / "r/of-ada").touch()
    (folder / "s").rename(folder / "state-of-ada")
    _prepare_folders(options_for(folder), "bob")
    assert not (folder / "r/of-ada").exists()
    assert (folder / "r/ipc").is_dir(), "they are made anew"
    assert [path.name for path in folder.glob("r.ada.*/of-ada")] == ["of-ada"]


@pytest.mark.parametrize("name", ["s", "r"])
def test_a_second_daemon_is_refused_in_either_folder(folder: Path, name: str) -> None:
    options = options_for(folder)
    _prepare_folders(options, "ada")
    lock = take_lock(folder / name / "daemon.lock", OURS)
    with pytest.raises(LockedError, match=r"starting the daemon: locking .* pid 7 of") as error:
        _lock_state(options)
    assert "stop it before" in error.value.hint
    os.close(lock)


def test_a_lock_of_another_machine_is_named_as_such(folder: Path) -> None:
    options = options_for(folder)
    _prepare_folders(options, "ada")
    lock = take_lock(folder / "s/daemon.lock", "kconnd, pid 7 of another.example\n4711")
    with pytest.raises(LockedError) as error:
        _lock_state(options)
    assert "another machine or container" in error.value.hint
    os.close(lock)


# --- the command, and the daemon in this process


def test_the_command_says_why_it_does_not_start(folder: Path) -> None:
    _prepare_folders(options_for(folder), "")
    lock = take_lock(folder / "s/daemon.lock", OURS)
    command = [sys.executable, "-m", "kconnd.daemon.main", *words(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)
    os.close(lock)
    problem, hint = run.stderr.splitlines()
    assert problem.startswith(f"kconnd: starting the daemon: locking {folder}/s/daemon.lock: ")
    assert hint.startswith("  kconnd-ctl uses the running daemon")
    assert run.returncode == LockedError.exit_code


class Manager:
    """Stands in for systemd: receives the states that a service reports (sd_notify(3))."""

    def __init__(self, path: Path) -> None:
        self._receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._receiver.bind(str(path))
        self.states: list[str] = []

    def has(self, state: str) -> bool:
        try:
            while True:
                self.states.append(self._receiver.recv(4096).decode())
        except BlockingIOError:
            return state in self.states

    def close(self) -> None:
        self._receiver.close()


@pytest.fixture
def manager(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    manager = Manager(folder / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "notify"))
    monkeypatch.setenv("JUPYTER_PATH", "")
    yield manager
    manager.close()


@pytest.mark.parametrize("more", [(), ("--stop-kernels-on-exit",)])
async def test_it_serves_from_ready_until_sigterm(
    folder: Path, manager: Manager, more: tuple[str, ...]
) -> None:
    (folder / "c").mkdir()
    (folder / "c/lab.yaml").write_text("kernel: python3\n")
    options = options_for(folder, *more)
    _prepare_folders(options, "")
    serving = asyncio.create_task(serve(options))
    await wait_until(lambda: serving.done() or manager.has("READY=1"), "it to be ready")
    client = Client(str(options.socket))
    health = await asyncio.to_thread(client.get, "/v1/health")
    assert (health["pid"], health["kernels"], health["ready"]) == (os.getpid(), 1, True)
    await wait_until(lambda: manager.has("WATCHDOG=1\nSTATUS=0 of 1 kernels are up"), "the status")
    (folder / "c/more.yaml").write_text("kernel: python3\n")
    os.kill(os.getpid(), signal.SIGHUP)
    await wait_until(lambda: manager.has("RELOADING=1"), "the reload")
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(serving, LIMIT)
    assert manager.has("STOPPING=1")
    assert not options.socket.exists()
