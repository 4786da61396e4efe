"""Verbs on live kernels where nothing can be remembered: real disks that are full or read-only.

All of a user's folders are on that disk, by the real command line, on a real ipykernel.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import wait_for
from tests.end_to_end.container import SHARED, Container, needs_namespaces
from tests.end_to_end.daemon import IPYKERNEL, Daemon, client, run_on
from tests.end_to_end.test_ctl import Done, ctl
from tests.end_to_end.test_survival import fill

MOUNT, UMOUNT = "/bin/mount", "/bin/umount"
FULL, READ_ONLY = "No space left on device", "Read-only file system"

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to mount a file system"),
]


@pytest.fixture
def lab(folder: Path) -> Iterator[Daemon]:
    """Give a daemon with a live kernel, all of whose folders are on a small disk of their own."""
    disk = folder / "d"
    disk.mkdir()
    subprocess.run([MOUNT, "-t", "tmpfs", "-o", "size=4M,mode=700", "none", str(disk)], check=True)
    try:
        with Daemon(disk) as daemon:
            daemon.profile("lab", IPYKERNEL)
            daemon.start()
            daemon.post("lab", "start")
            daemon.post("lab", "interrupt")
            yield daemon
    finally:
        subprocess.run([UMOUNT, "-l", str(disk)], check=True)


def _make_read_only(disk: Path) -> None:
    """Have the folder seen through a read-only mount, since open files refuse a remount."""
    subprocess.run([MOUNT, "--bind", str(disk), str(disk)], check=True)
    subprocess.run([MOUNT, "-o", "remount,bind,ro", str(disk)], check=True)


def _done(daemon: Daemon, *words: str, **more: Any) -> Done:
    done = ctl(daemon, *words, **more)
    assert done.code == 0, (words, done.out, done.err)
    return done


def _all_verbs_work(daemon: Daemon) -> None:
    pid = daemon.info("lab")["pid"]
    assert _done(daemon, "run", "lab", "-c", "x = 6 * 7; print(x)").out == "42\n"
    assert _done(daemon, "info", "lab", "--json").json["pid"] == pid
    assert _done(daemon, "connection", "lab", "--json").json["key"]
    assert _done(daemon, "start", "lab").out.startswith("lab is ready"), "it is so already"
    assert _done(daemon, "console", "lab", "--json").json["connection_file"]
    said = _done(daemon, "console", "lab", "--", "--simple-prompt", input="print(x + 1)\nexit\n")
    assert "43" in said.out
    assert "argv" in _done(daemon, "qtconsole", "lab", "--json").json
    assert "stopped" not in _done(daemon, "logs", "lab").out
    assert _done(daemon, "why", "lab").out
    _is_interrupted(daemon)
    assert daemon.info("lab")["pid"] == pid


def _is_interrupted(daemon: Daemon) -> None:
    with client(daemon.info("lab")["connection_file"]) as attached:
        attached.execute("import time\nprint('begun')\nfor _ in range(600): time.sleep(0.1)")
        wait_for(
            lambda: attached.get_iopub_msg(timeout=30)["msg_type"] == "stream", "the cell to begin"
        )
        _done(daemon, "interrupt", "lab")
        reply = attached.get_shell_msg(timeout=30)
        while reply["msg_type"] != "execute_reply":
            reply = attached.get_shell_msg(timeout=30)
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        assert run_on(attached, "print(x)") == "42\n"


def _restart_is_refused_and_stop_is_done(daemon: Daemon, why: str) -> None:
    pid = daemon.info("lab")["pid"]
    refused = ctl(daemon, "restart", "lab")
    assert refused.code == 1
    assert "restarting lab: a new process could not be launched" in refused.err
    assert why in refused.err
    assert "the kernel goes on running" in refused.err
    assert run_lab(daemon, "print(x)") == "42\n"
    assert daemon.info("lab")["pid"] == pid

    stopped = _done(daemon, "stop", "lab", "--json")
    (kernel,) = stopped.json["kernels"]
    assert kernel["state"] == "stopped"
    assert why in kernel["unrecorded"]
    assert "stop lab succeeded, and could not be recorded" in stopped.err
    assert not Path(f"/proc/{pid}").exists()


def run_lab(daemon: Daemon, code: str) -> str:
    with client(daemon.info("lab")["connection_file"]) as attached:
        return run_on(attached, code)


def test_on_a_full_disk_all_works_that_needs_nothing_remembered(lab: Daemon) -> None:
    filler = fill(lab.folder)
    _all_verbs_work(lab)
    _restart_is_refused_and_stop_is_done(lab, FULL)
    on_disk = json.loads(lab.record("lab").read_bytes())
    assert on_disk["lifecycle"]["state"] != "stopped"
    filler.unlink()
    wait_for(lambda: lab.info("lab")["unrecorded"] is None, "it to be recorded after all")
    assert json.loads(lab.record("lab").read_bytes())["lifecycle"]["wanted"] == "down"
    assert lab.post("lab", "start")["state"] == "running"


def test_on_a_read_only_disk_all_works_that_needs_nothing_remembered(lab: Daemon) -> None:
    disk = lab.folder
    _make_read_only(disk)
    try:
        _all_verbs_work(lab)
        _restart_is_refused_and_stop_is_done(lab, READ_ONLY)
    finally:
        subprocess.run([UMOUNT, "-l", str(disk)], check=True)
    wait_for(lambda: lab.info("lab")["unrecorded"] is None, "it to be recorded after all")


@pytest.mark.parametrize("launcher", ["local", "fork"])
def test_how_a_kernel_ended_on_a_full_disk_is_known_to_the_next_daemon(
    lab: Daemon, launcher: str
) -> None:
    lab.profile("other", f"{IPYKERNEL}launcher: {launcher}\nrestart: {{policy: no}}\n")
    lab.kill()
    lab.start()
    lab.post("other", "start")
    kernel = psutil.Process(lab.info("other")["pid"])
    lab.kill()
    filler = fill(lab.folder)
    kernel.kill()
    wait_for(lambda: not kernel.is_running(), "the kernel to end")
    lab.start()
    wait_for(lambda: lab.info("other")["last_exit"], "its end to be seen")
    assert lab.info("other")["last_exit"]["signal"] == signal.SIGKILL
    lab.kill()  # and once more, since nothing could be recorded
    lab.start()
    assert lab.info("other")["last_exit"]["signal"] == signal.SIGKILL
    filler.unlink()
    wait_for(lambda: lab.info("other")["unrecorded"] is None, "it to be recorded after all")
    left = [path.name for path in lab.folder.rglob("other.*")]
    assert left == ["other.yaml"], "what told of its end is removed once that is recorded"


@needs_namespaces
@pytest.mark.parametrize("why", [FULL, READ_ONLY])
def test_a_daemon_is_started_for_a_live_kernel_without_a_disk_for_its_records(
    folder: Path, why: str
) -> None:
    """Its daemon was killed, and the home can hold nothing more."""
    home = folder / "home"
    home.mkdir()
    subprocess.run([MOUNT, "-t", "tmpfs", "-o", "size=4M,mode=700", "none", str(home)], check=True)
    try:
        configs = home / ".config/kconnd/configs"
        configs.mkdir(parents=True)
        (configs / "lab.yaml").write_text(IPYKERNEL, encoding="utf-8")
        with Container(home, "one") as machine:
            machine.ctl("start", "lab")
            pid = machine.info("lab")["pid"]
            machine.kill_daemon()
            for name in ("start.lock", "daemon.log"):  # which would have to be made again
                next(home.glob(f".local/state/kconnd/*/{name}")).unlink()
            if why == FULL:
                fill(home)
            else:
                machine.run(MOUNT, "--bind", str(SHARED), str(SHARED))
                machine.run(MOUNT, "-o", "remount,bind,ro", str(SHARED))
            # A thread of IPython may print that it cannot write its history, which is on that disk
            # as well, also between the 42 and the end of its line.
            assert "42" in machine.ctl("run", "lab", "-c", "print(6 * 7)").stdout
            assert machine.info("lab")["pid"] == pid
            assert why in machine.ctl("stop", "lab").stderr
    finally:
        subprocess.run([UMOUNT, "-l", str(home)], check=True)
