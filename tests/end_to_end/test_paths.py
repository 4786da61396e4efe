"""Paths that a profile or a kernel spec names can lead to anything, and hold up one start alone."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.end_to_end.daemon import SMALL, SMALL_KERNEL, Daemon, DaemonError
from tests.end_to_end.hung_disk import HungDisk, can_hang, hung_disk
from tests.end_to_end.slow_turns import assert_no_slow_turn, measured

AT_ONCE_S = 2.0  # what takes longer waits for something
STUCK_S = 15.0  # in which a start gives up


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_folder(path: Path) -> None:
    path.mkdir()


def make_huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)  # with nothing in it


KINDS: dict[Callable[[Path], None], str] = {
    make_fifo: "a named pipe, not a regular file",
    make_endless: "a device, not a regular file",
    make_folder: "a folder, not a regular file",
    make_huge: "larger than",
}


def test_an_env_file_that_is_no_file_fails_that_start_alone(daemon: Daemon) -> None:
    """Also for the daemon that comes next, and takes the start upon itself."""
    paths = {make.__name__.replace("_", "-"): make for make in KINDS}
    for name, make in paths.items():
        make(daemon.folder / name)
        daemon.profile(name, f"{SMALL}env_file: {daemon.folder / name}\nstart: boot\n")
    daemon.profile("lab", SMALL)
    measured(daemon).start()
    began = time.monotonic()
    for name, make in paths.items():
        why = f"reading its env_file {daemon.folder / name}: .*{KINDS[make]}"
        with pytest.raises(DaemonError, match=why) as info:
            daemon.post(name, "start")
        assert "readable file of KEY=VALUE lines" in info.value.hint
    assert daemon.post("lab", "start")["state"] == "running"
    assert time.monotonic() - began < 2 * AT_ONCE_S
    assert daemon.end() == 0
    daemon.start()
    assert daemon.state_of("lab") == "running"
    assert daemon.end() == 0


def test_a_kernel_spec_that_is_no_file(daemon: Daemon) -> None:
    kernels = daemon.folder / "jupyter-path" / "kernels"
    paths = {make.__name__.replace("_", "-"): make for make in KINDS}
    for name, make in paths.items():
        (kernels / name).mkdir(parents=True)
        make(kernels / name / "kernel.json")
        daemon.profile(f"of-{name}", f"kernel: {name}\n")
    daemon.profile("lab", SMALL)
    daemon.start(env={**os.environ, "JUPYTER_PATH": str(kernels.parent)})
    for name in paths:
        with pytest.raises(DaemonError, match="the kernel spec"):
            daemon.post(f"of-{name}", "start")
    assert daemon.post("lab", "start")["state"] == "running"
    assert daemon.get("/v1/profiles")["faults"] == []


def test_a_kernel_spec_is_known_as_soon_as_it_is_installed(daemon: Daemon) -> None:
    """Although nobody scans folders while a look-up waits."""
    kernels = daemon.folder / "jupyter-path" / "kernels"
    daemon.start(env={**os.environ, "JUPYTER_PATH": str(kernels.parent)})
    with pytest.raises(DaemonError, match="there is no kernel late"):
        daemon.info("late")
    (kernels / "late").mkdir(parents=True)
    argv = [sys.executable, str(SMALL_KERNEL), "{connection_file}"]
    spec = {"argv": argv, "display_name": "late", "language": "small"}
    (kernels / "late" / "kernel.json").write_text(json.dumps(spec))
    assert daemon.info("late")["state"] == "stopped"


@pytest.mark.parametrize(
    "make",
    [
        make_fifo,
        *(pytest.param(one, marks=pytest.mark.nightly) for one in (make_endless, make_huge)),
    ],
)
def test_own_files_that_were_exchanged_hold_up_nothing(
    daemon: Daemon, make: Callable[[Path], None]
) -> None:
    """A kernel can do that to its owner's files, which is no more than the owner can."""
    daemon.profile("odd", SMALL)
    daemon.profile("lab", SMALL)
    daemon.start()
    pid = daemon.post("odd", "start")["pid"]
    daemon.post("lab", "start")
    folder, live = daemon.record("odd").parent, daemon.runtime / "live"
    paths = [folder / "log", folder / "log.1", daemon.record("odd"), folder / "exit.json"]
    paths += [live / "odd.shim.json", daemon.runtime / "kernel-odd.json", live / "odd.plan"]
    for path in paths:
        path.unlink(missing_ok=True)
        make(path)
    try:
        see_that_all_goes_on(daemon, pid)
    finally:
        for path in paths:  # who looks after the test reads some of them
            path.unlink(missing_ok=True)


def see_that_all_goes_on(daemon: Daemon, pid: int) -> None:
    with daemon.stream("/v1/kernels/odd/logs") as lines:
        list(lines)
    assert daemon.get("/v1/kernels/odd/why")
    daemon.kill()
    began = time.monotonic()
    daemon.start()
    assert daemon.state_of("lab") == "running"
    daemon.get("/v1/kernels")
    daemon.post("lab", "restart")
    assert time.monotonic() - began < 5 * AT_ONCE_S
    os.kill(pid, signal.SIGKILL)
    is_served(daemon)
    assert daemon.end() == 0


# --- what hangs


@pytest.fixture
def disk(folder: Path) -> Iterator[HungDisk]:
    with hung_disk(folder / "hung") as found:
        yield found


def is_served(daemon: Daemon, seconds: float = AT_ONCE_S) -> None:
    """See that others are served as if nothing were."""
    began = time.monotonic()
    assert daemon.get("/v1/health")["ready"]
    daemon.get("/v1/kernels")
    assert daemon.post("lab", "restart")["state"] == "running"
    assert time.monotonic() - began < seconds


STUCK = {
    "file": "argv: [{small}]\ntransport: ipc\nenv_file: {hung}/variables\n",
    "folder": "argv: [{small}]\ntransport: ipc\ncwd: {hung}/folder\n",
    "program": "argv: ['{hung}/kernel', '{{connection_file}}']\ntransport: ipc\n",
    "python": "python: {hung}/bin/python\n",
    "spec": "kernel: elsewhere\n",
}


@pytest.mark.root
@pytest.mark.skipif(not can_hang(), reason="needs root and /dev/fuse")
def test_a_path_on_a_server_that_hangs_holds_up_one_start(daemon: Daemon, disk: HungDisk) -> None:
    small = SMALL.partition("[")[2].partition("]")[0]
    daemon.profile("lab", SMALL)
    for name, text in STUCK.items():
        daemon.profile(name, text.format(hung=disk.folder, small=small) + "start: boot\n")
    environment = {**os.environ, "JUPYTER_PATH": f"{disk.folder}/jupyter"}
    began = time.monotonic()
    measured(daemon).start(env=environment, until="listening")
    assert time.monotonic() - began < AT_ONCE_S, "it listens"
    wait_for(daemon.is_ready, "it to have looked where it could")
    daemon.post("lab", "start")
    is_served(daemon)
    began = time.monotonic()
    with ThreadPoolExecutor() as threads:
        told = dict(zip(STUCK, threads.map(partial(trouble_of, daemon), STUCK), strict=True))
    assert time.monotonic() - began < STUCK_S
    assert all(f"{disk.folder}/" in one and "does not answer" in one for one in told.values())
    began = time.monotonic()
    assert all("does not answer" in trouble_of(daemon, name) for name in STUCK)
    assert time.monotonic() - began < AT_ONCE_S, "no second thread goes there"
    assert daemon.process is not None
    assert len(list(Path(f"/proc/{daemon.process.pid}/task").iterdir())) < 20
    for name in STUCK:
        daemon.post(name, "stop")
    is_served(daemon)
    assert_no_slow_turn(daemon, since=began)
    began = time.monotonic()
    assert daemon.end() == 0
    daemon.start(env=environment, until="listening")
    assert time.monotonic() - began < 2 * AT_ONCE_S, "it ends, and the next one listens"
    disk.answer()
    wait_for(lambda: "does not answer" not in trouble_of(daemon, "file"), "the path to answer")
    is_served(daemon)


def trouble_of(daemon: Daemon, name: str) -> str:
    """Start a kernel that cannot be started, and give why."""
    with pytest.raises(DaemonError) as info:
        daemon.post(name, "start")
    return str(info.value.message)


@pytest.mark.root
@pytest.mark.skipif(not can_hang(), reason="needs root and /dev/fuse")
def test_profiles_on_a_server_that_hangs(daemon: Daemon, disk: HungDisk) -> None:
    """One file, and a whole folder: the others hold, and the daemon listens and ends."""
    daemon.profile("lab", SMALL)
    (daemon.configs / "far.yaml").symlink_to(disk.folder / "far.yaml")
    daemon.watches = True
    measured(daemon).start(f"--configs={disk.folder}/more")
    assert daemon.get("/v1/health")["pid"]
    daemon.post("lab", "start")
    is_served(daemon)
    said = json.dumps(daemon.ask("POST", "/v1/reload")["faults"])
    assert "far.yaml" in said
    assert f"{disk.folder}/more" in said
    with pytest.raises(DaemonError, match=r"the profile of far has faults: .*does not answer"):
        daemon.post("far", "start")
    assert_no_slow_turn(daemon)
    assert daemon.end() == 0
    daemon.start(f"--configs={disk.folder}/more", until="listening")
    began = time.monotonic()
    assert daemon.end() == 0
    assert time.monotonic() - began < AT_ONCE_S, "it hears SIGTERM while it reads"
