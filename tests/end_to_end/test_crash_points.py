"""The daemon killed right before each change it makes to the outside world, one after the other.

State is saved before it is acted on. So whichever step a daemon dies at, the next one does the
right thing: no second process for a kernel, no process that nobody knows, no port granted
twice, nothing stopped that nobody asked to stop, and nothing left behind after a stop.
"""

import contextlib
import http.client
import json
import os
import sys
from pathlib import Path

import psutil
import pytest

from kconnd.launchers.shim_process import NAME_ROOM
from tests.conftest import wait_for
from tests.end_to_end.daemon import SMALL, Daemon

CRASHING = Path(__file__).with_name("crashing.py")
TCP = SMALL.replace("ipc", "tcp")
# What may be, once a daemon has died while it was asked for this.
AFTER = {
    "": {"stopped"},
    "start": {"running", "stopped"},
    "restart": {"running"},
    "stop": {"running", "stopped"},
}
EVERY = int(os.environ.get("KCONND_CRASH_EVERY", "3"))  # points between two; 1 tries all


class Crashing(Daemon):
    """A daemon that may be about to die."""

    at = 0

    def command(self, *more: str) -> list[str]:
        if self.at == 0:
            return super().command(*more)
        options = super().command(*more)[5:]
        begin = [sys.executable, "-W", "error", str(CRASHING), str(self.at), str(self.points)]
        return [*begin, *options]

    @property
    def points(self) -> Path:
        return self.folder / "points"


def processes(daemon: Daemon) -> list[int]:
    """List the processes that belong to the daemon's kernels: shims and kernels."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or ())
        if line.endswith(NAME_ROOM):
            continue  # a shim that is nobody's yet
        ours = str(daemon.runtime / "live") in line or str(daemon.runtime / "kernel-") in line
        if ours and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.info["pid"])
    return found


def parts(daemon: Daemon) -> list[Path]:
    """List the files that are being written, or were when a daemon died."""
    return [path for path in daemon.folder.rglob(".*") if path.name != ".lab"]


def go(daemon: Crashing, verbs: tuple[str, ...]) -> tuple[str, int | None, int | None]:
    """Do what is asked until the daemon dies: gives what it was doing then, and two pids."""
    asked, before, pid = "", None, None
    gone = (OSError, http.client.HTTPException)
    try:
        daemon.start()
        for asked in verbs:
            before = pid
            pid = daemon.post("lab", asked)["pid"]
        asked = ""
    except (*gone, AssertionError):
        assert daemon.process is not None
        daemon.process.wait(10)
    return asked, before, pid


def check_recovery(daemon: Crashing, asked: str, pid: int | None) -> None:
    daemon.at = 0
    daemon.start()
    rests = {"running", "stopped", "failed", "lost"}
    wait_for(lambda: daemon.state_of("lab") in rests, "the kernel to settle")
    info = daemon.info("lab")
    assert info["state"] in AFTER[asked], (info["reason"], daemon.said()[-2000:])
    wait_for(lambda: len(processes(daemon)) in {0, 2}, "processes to settle")
    found = processes(daemon)
    assert (info["pid"] in found) == bool(found) == (info["state"] == "running")
    if info["state"] == "running" and info["generation"] == 1 and pid:
        assert info["pid"] == pid, "the kernel that nobody asked to end"
    if not found:  # what a daemon left that died before it had cleaned up is gone
        left = {path.name for path in (daemon.runtime / "live").glob("lab.*")}
        assert left | {path.name for path in daemon.runtime.glob("kernel-*")} == set()
    granted = json.loads((daemon.runtime / "ports.json").read_bytes() or b"{}") if found else {}
    assert len(granted.get("lab", [])) == (5 if found else 0)
    # It can be used as if nothing had been.
    assert daemon.post("lab", "start")["state"] == "running"
    assert daemon.post("lab", "stop")["state"] == "stopped"
    assert processes(daemon) == []
    assert [path.name for path in (daemon.runtime / "live").iterdir()] == ["shim.pyc"]
    wait_for(lambda: parts(daemon) == [], "what was saved to be on disk, and nothing to be left")
    assert not (daemon.runtime / "kernel-lab.json").exists()
    assert json.loads((daemon.runtime / "ports.json").read_bytes()) == {}
    daemon.end()


@pytest.mark.timeout(600)
def test_whichever_change_a_daemon_dies_before(folder: Path) -> None:
    verbs = ("start", "restart", "stop")
    number, died = 1, 0
    while True:
        place = folder / str(number)
        place.mkdir()
        with Crashing(place) as daemon:
            daemon.profile("lab", TCP)
            daemon.at = number
            asked, before, pid = go(daemon, verbs)
            if daemon.process is not None and daemon.process.poll() is None:
                break  # it lived through all: there is no such point
            daemon.process, died = None, died + 1
            point = daemon.points.read_text(encoding="utf-8").splitlines()[-1]
            with contextlib.ExitStack() as told:
                told.callback(print, f"killed before {point}, while asked to {asked!r}")
                check_recovery(daemon, asked, before if asked == "restart" else pid)
        number += EVERY
    assert died > 60 // EVERY, "it changes the world at many points"
