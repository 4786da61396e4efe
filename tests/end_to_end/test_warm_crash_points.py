"""The daemon killed right before each change it makes while it warms a kernel or hands one over.

Whichever step it dies at: the next daemon leaves no process that nobody knows, and a start that
was asked for has led to one kernel, of its generation, that knows its name and whose exit is
told.
"""

import contextlib
import http.client
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import wait_for
from tests.end_to_end.daemon import client, run, run_on
from tests.end_to_end.test_crash_points import EVERY, Crashing
from tests.end_to_end.test_warm import INSIDE

STEP = 1 if EVERY == 1 else 2 * EVERY  # points between two: each takes some seconds
FORK = f"python: {sys.executable}\nlauncher: fork\ntransport: {{}}\n"
GONE = (OSError, http.client.HTTPException, AssertionError)


def kernels(daemon: Crashing) -> list[int]:
    """List the processes that have a connection file in the daemon's folder."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        ours = f"-f {daemon.runtime}/" in " ".join(process.info["cmdline"] or ())
        if ours and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.info["pid"])
    return found


def wait_ready(daemon: Crashing) -> None:
    """Wait until one is warm, or the daemon has died; a dead one does not answer."""
    wait_for(lambda: daemon.get("/v1/health")["warm"] == 1, "it to be ready")


def check_nothing_is_left(daemon: Crashing) -> None:
    wait_for(lambda: not kernels(daemon), "all processes to end")
    live = daemon.runtime / "live"
    wait_for(lambda: {path.name for path in live.iterdir()} <= {"shim.pyc"}, "its files to go")
    assert [path.name for path in (daemon.runtime / "ipc").iterdir()] == []
    wait_for(lambda: not list(daemon.state.glob("warm/*")), "its link to go")
    assert not list(daemon.runtime.glob("kernel-*"))
    wait_for(lambda: not _granted(daemon), "its ports to be free")


def _granted(daemon: Crashing) -> object:
    with contextlib.suppress(FileNotFoundError):
        return json.loads((daemon.runtime / "ports.json").read_bytes())
    return None


def take_up(daemon: Crashing, transport: str) -> None:
    """Start a daemon that lives, and that keeps nothing warm."""
    daemon.at = 0
    daemon.profile("lab", FORK.format(transport))
    daemon.start()


def check_kernel(daemon: Crashing) -> None:
    """See that there is one kernel, all that a start gives, or that none was asked for."""
    rests = {"running", "stopped", "failed", "lost"}
    wait_for(lambda: daemon.state_of("lab") in rests, "the kernel to settle")
    info = daemon.info("lab")
    assert (info["state"], info["generation"]) in {("running", 2), ("stopped", 1)}, info["reason"]
    if info["state"] == "stopped":
        return
    path = str(daemon.runtime / "kernel-lab.json")
    assert info["connection_file"] == path
    wait_for(lambda: "lab~" not in run(path, INSIDE), "it to learn its name")
    with client(path) as attached:
        assert run_on(attached, INSIDE) == f"{[path, path, path, 'lab']}\n"
        assert kernels(daemon) == [info["pid"]]
        attached.execute("import os; os._exit(7)")
        wait_for(lambda: daemon.info("lab")["last_exit"]["code"] == 7, "its exit to be told")
    daemon.post("lab", "stop")


def handed_over(daemon: Crashing) -> bool:
    """Start a second time, and tell whether the daemon lived through that."""
    daemon.start()
    wait_ready(daemon)
    daemon.post("lab", "start")
    daemon.post("lab", "stop")
    wait_ready(daemon)
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGUSR1)
    wait_for(lambda: "armed" in daemon.points.read_text(encoding="utf-8"), "it to count")
    with contextlib.suppress(*GONE):
        daemon.post("lab", "start")
        return True
    daemon.process.wait(10)
    return False


def warmed(daemon: Crashing) -> bool:
    """Start a daemon that keeps a kernel warm, and tell whether the daemon lived through that."""
    with contextlib.suppress(*GONE):
        daemon.start()
        wait_ready(daemon)
        return True
    assert daemon.process is not None
    daemon.process.wait(10)
    return False


def die_at_each_step(
    folder: Path,
    transport: str,
    survives: Callable[[Crashing], bool],
    check: Callable[[Crashing], None],
    direction: int,
) -> None:
    """Kill a daemon before each change, and check what the next daemon makes of it.

    With a negative direction, the changes count from the signal that arms the daemon.
    """
    number, died = 1, 0
    while True:
        place = folder / str(number)
        place.mkdir()
        with Crashing(place) as daemon:
            daemon.profile("lab", f"{FORK.format(transport)}warm: 1\n")
            daemon.at = direction * number
            if survives(daemon):
                break
            daemon.process, died = None, died + 1
            point = daemon.points.read_text(encoding="utf-8").splitlines()[-1]
            with contextlib.ExitStack() as report:
                report.callback(print, f"killed before {point}")
                take_up(daemon, transport)
                check(daemon)
                check_nothing_is_left(daemon)
        number += STEP
    assert died > 15 // STEP, "the world is changed at many points"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_whichever_step_of_a_hand_over_a_daemon_dies_at(folder: Path, transport: str) -> None:
    die_at_each_step(folder, transport, handed_over, check_kernel, direction=-1)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_whichever_step_of_warming_a_daemon_dies_at(folder: Path, transport: str) -> None:
    die_at_each_step(folder, transport, warmed, lambda _: None, direction=1)
