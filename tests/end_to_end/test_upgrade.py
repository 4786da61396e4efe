"""Upgrades from released versions: their state loads, and kernels that they started live on.

The program of a release comes from this repository's own history (tests/bench/baseline), and runs
with the present environment. Its state folder, as it was after a crash of the machine, is kept in
``tests/data/v0.1.0``; ``@WORDS@`` stand for what differs from machine to machine.
"""

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from kconnd.system.machine import machine_id
from tests.conftest import wait_for
from tests.end_to_end.daemon import IPYKERNEL, Daemon, client, run_on

ROOT = Path(__file__).parents[2]
STORED = ROOT / "tests/data/v0.1.0"
BASELINE = (ROOT / "tests/bench/baseline").read_text(encoding="utf-8").strip()
SAME = ("pid", "connection_file", "generation", "launcher")
PROFILES = {
    "ipc": IPYKERNEL,
    "curve": IPYKERNEL + "transport: tcp\nencryption: curve\n",
    "fork": IPYKERNEL + "launcher: fork\n",
    "warm": IPYKERNEL + "launcher: fork\nwarm: 1\n",
}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Give a folder with the package of v0.1.0."""
    git = [shutil.which("git") or "git", "archive", BASELINE, "kconnd"]
    archive = subprocess.run(git, cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"this clone lacks the commit of v0.1.0: {archive.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture
def upgraded(folder: Path, release: Path) -> Daemon:
    """Give a daemon of v0.1.0 that was killed with -9, and has left a kernel of each profile."""
    daemon = Daemon(folder)
    for name, text in PROFILES.items():
        daemon.profile(name, text)
    daemon.start(env={**os.environ, "PYTHONPATH": str(release)}, cwd=release)
    assert daemon.get("/v1/health")["version"] == "0.1.0"
    return daemon


def run(daemon: Daemon, name: str, code: str) -> str:
    with client(daemon.info(name)["connection_file"]) as attached:
        return run_on(attached, code)


def test_kernels_of_the_release_live_on(upgraded: Daemon) -> None:
    with upgraded as daemon:
        for name in PROFILES:
            daemon.post(name, "start")
            run(daemon, name, f"x = {name!r}")
        before = {name: daemon.info(name) for name in PROFILES}
        daemon.kill()
        daemon.start()
        for name in PROFILES:
            after = daemon.info(name)
            assert {key: after[key] for key in SAME} == {key: before[name][key] for key in SAME}
            assert run(daemon, name, "print(x)") == f"{name}\n"
        daemon.kill()
        os.kill(before["ipc"]["pid"], signal.SIGKILL)  # while no daemon runs
        daemon.start()
        wait_for(lambda: daemon.info("ipc")["last_exit"], "its end to be seen")
        assert daemon.info("ipc")["last_exit"]["signal"] == signal.SIGKILL
        for name in ("curve", "fork", "warm"):
            assert daemon.post(name, "stop")["last_exit"]["code"] == 0


def test_kernels_of_the_present_version_survive_a_downgrade(
    upgraded: Daemon, release: Path
) -> None:
    with upgraded as daemon:
        daemon.end()
        daemon.start()
        for name in PROFILES:
            daemon.post(name, "start")
            run(daemon, name, f"x = {name!r}")
        pids = {name: daemon.info(name)["pid"] for name in PROFILES}
        daemon.kill()
        daemon.start(env={**os.environ, "PYTHONPATH": str(release)}, cwd=release)
        assert {name: daemon.info(name)["pid"] for name in PROFILES} == pids
        assert [run(daemon, name, "print(x)") for name in PROFILES] == [f"{x}\n" for x in PROFILES]


def test_the_stored_state_of_the_release_loads(folder: Path) -> None:
    """The machine restarted: what was to be running at boot is started, the rest is reported."""
    words = {
        "@MACHINE@": machine_id(),
        "@HOST@": socket.gethostname(),
        "@PYTHON@": sys.executable,
        "@FOLDER@": str(folder),
    }
    daemon = Daemon(folder)
    for place, stored in ((daemon.state, "state"), (daemon.configs, "configs")):
        copy(STORED / stored, place, words)
    with daemon.start():
        names = ("lab", "fork", "warm", "ended", "failed")
        states = {name: daemon.state_of(name) for name in names}
        assert states == {
            "lab": "lost",
            "fork": "lost",
            "warm": "lost",
            "ended": "failed",
            "failed": "failed",
        }
        assert daemon.info("ended")["last_exit"]["signal"] == signal.SIGKILL
        assert "restarted" in daemon.info("lab")["reason"]
        daemon.wait_state("boot", "running")
        assert daemon.info("boot")["generation"] == 2
        assert daemon.post("lab", "start")["generation"] == 3


def copy(source: Path, target: Path, words: dict[str, str]) -> None:
    """Copy a tree of private files, and put this machine's words into them."""
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.is_symlink():
            place.symlink_to(path.readlink())
        elif path.is_file():
            text = path.read_text(encoding="utf-8")
            for word, meaning in words.items():
                text = text.replace(word, meaning)
            place.write_text(text, encoding="utf-8")
            place.chmod(0o600)
