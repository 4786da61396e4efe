"""Idle stop and heartbeats beside work that says little of itself, on real kernels.

Each kernel writes a file when its work is done, so one that was ended before shows.
"""

import json
import os
import shutil
import signal
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from tests.chaos.trouble import FAKETIME, HOUR_S, Clock
from tests.conftest import wait_for
from tests.end_to_end.daemon import IPYKERNEL, Daemon, begin, client, run_on

IDLE = IPYKERNEL + "idle: {stop_after: 1s}\nheartbeat: {interval: 1s}\n"
WIRES = {
    "ipc": "transport: ipc\n",
    "tcp": "transport: tcp\n",
    "curve": "transport: tcp\nencryption: curve\n",
}
WORK_S = 4
LONG_WORK_S = 8  # of which an adoption leaves enough
WORK = "import pathlib, time\ntime.sleep({seconds})\npathlib.Path({done!r}).touch()"
COMPUTE = """
import pathlib, threading, time
def compute():
    until = time.monotonic() + {seconds}
    while time.monotonic() < until:
        sum(range(50_000))
        time.sleep(0.01)
    pathlib.Path({done!r}).touch()
threading.Thread(target=compute).start()
"""
COMM = """
import pathlib, time
def opened(comm, message):
    @comm.on_msg
    def _(message):
        time.sleep({seconds})
        pathlib.Path({done!r}).touch()
get_ipython().kernel.comm_manager.register_target("work", opened)
"""


def asked(attached: BlockingKernelClient, kind: str) -> dict[str, Any]:
    """Ask on control, and give what is replied."""
    message = attached.session.msg(kind)
    attached.control_channel.send(message)
    while True:
        reply = attached.get_control_msg(timeout=30)
        if reply["parent_header"]["msg_id"] == message["header"]["msg_id"]:
            content: dict[str, Any] = reply["content"]
            return content


def work_in_a_subshell(attached: BlockingKernelClient, work: dict[str, Any]) -> None:
    subshell = asked(attached, "create_subshell_request")["subshell_id"]
    content = {"code": WORK.format(**work), "silent": False, "allow_stdin": False}
    message = attached.session.msg("execute_request", content)
    message["header"]["subshell_id"] = subshell
    attached.shell_channel.send(message)


def work_in_a_callback(attached: BlockingKernelClient, work: dict[str, Any]) -> None:
    run_on(attached, COMM.format(**work))
    opening = {"comm_id": "c1", "target_name": "work", "data": {}}
    for kind, content in (("comm_open", opening), ("comm_msg", {"comm_id": "c1", "data": {}})):
        attached.shell_channel.send(attached.session.msg(kind, content))


def work_in_a_thread(attached: BlockingKernelClient, work: dict[str, Any]) -> None:
    run_on(attached, COMPUTE.format(**work))


WAYS = {
    "subshell": work_in_a_subshell,
    "callback": work_in_a_callback,
    "thread": work_in_a_thread,
}


def begin_work(daemon: Daemon, wire: str, seconds: float = WORK_S) -> dict[str, Path]:
    """Have a kernel work in each way, and leave it alone."""
    done = {}
    for name in (f"{wire}-{way}" for way in WAYS):
        daemon.profile(name, IDLE + WIRES[wire])
        done[name] = daemon.folder / f"{name}.done"
    daemon.ask("POST", "/v1/reload")
    for name, path in done.items():
        info = daemon.post(name, "start")
        with client(info["connection_file"]) as attached:
            work = {"seconds": seconds, "done": str(path)}
            WAYS[name.partition("-")[2]](attached, work)
            wait_for(partial(is_known_to_work, daemon, name), f"{name} to begin")
    return done


def is_known_to_work(daemon: Daemon, name: str) -> bool:
    return name.endswith("thread") or daemon.info(name)["execution_state"] == "busy"


def what_keeps(daemon: Daemon, name: str) -> str:
    wait_for(lambda: daemon.info(name)["kept_alive"], "what keeps it alive")
    return str(daemon.info(name)["kept_alive"])


def wait_for_the_end(daemon: Daemon, done: dict[str, Path]) -> None:
    for name, path in done.items():
        wait_for(path.exists, f"the work of {name} to be done")
        stopped = daemon.wait_state(name, "stopped")
        # A kernel that does not exit in time after its reply gets SIGTERM, and the reason says so.
        assert stopped["reason"].startswith("nothing ran for 1s and no client is connected")


@pytest.mark.parametrize(
    "wire", ["curve", *(pytest.param(one, marks=pytest.mark.nightly) for one in ("ipc", "tcp"))]
)
def test_idle_stop_ends_nothing_that_works_and_all_that_does_not(daemon: Daemon, wire: str) -> None:
    daemon.start()
    done = begin_work(daemon, wire)
    assert "of a core over the last" in what_keeps(daemon, f"{wire}-thread")
    wait_for_the_end(daemon, done)


def test_a_new_daemon_ends_nothing_that_works_either(daemon: Daemon) -> None:
    """It has not heard them say that they are busy, and asks each shell."""
    daemon.start()
    done = begin_work(daemon, "ipc", seconds=LONG_WORK_S)
    daemon.kill()
    daemon.start()
    for name in done:
        if not done[name].exists() and not name.endswith("thread"):
            assert daemon.info(name)["execution_state"] in {"unknown", "busy"}
    wait_for_the_end(daemon, done)


@pytest.mark.skipif(not FAKETIME.exists(), reason="needs libfaketime (apt install faketime)")
def test_a_clock_that_is_set_stops_no_kernel(daemon: Daemon) -> None:
    """As NTP sets it by hours, forward and back."""
    clock = Clock(daemon.folder / "clock")
    clock.set(0)
    daemon.profile("lab", IPYKERNEL + "idle: {stop_after: 1h}\nheartbeat: {interval: 1s}\n")
    daemon.start(env={**os.environ, **clock.environment})
    daemon.post("lab", "start")
    for hours in (3, -3, 48):
        clock.set(hours * HOUR_S)
        wait_for(partial(is_at, daemon, hours), "the daemon to see that clock")
        heard = daemon.info("lab")["heartbeat"]
        wait_for(partial(has_beaten_since, daemon, heard), "a round")
        assert daemon.state_of("lab") == "running"
        assert daemon.get("/v1/kernels/lab/why")["decisions"][-1]["what"] == "starting → running"


def has_beaten_since(daemon: Daemon, heard: dict[str, Any]) -> bool:
    return bool(daemon.info("lab")["heartbeat"] != heard)


def is_at(daemon: Daemon, hours: int) -> bool:
    """Tell whether the daemon shows times of such a clock."""
    shown = datetime.fromisoformat(daemon.info("lab")["last_activity"]).timestamp()
    return abs(shown - time.time() - hours * HOUR_S) < HOUR_S / 2


needs_r = pytest.mark.skipif(not shutil.which("R"), reason="needs R (apt install r-cran-irkernel)")
R = "kernel: ir\nheartbeat: {interval: 300ms, misses: 3, action: restart}\n"


@pytest.mark.languages
@needs_r
@pytest.mark.parametrize("wire", ["ipc", pytest.param("tcp", marks=pytest.mark.nightly)])
def test_a_cell_of_r_is_not_ended_for_missing_heartbeats(daemon: Daemon, wire: str) -> None:
    """IRkernel answers none while a cell runs: for longer than the misses that are allowed."""
    daemon.profile("r", R + WIRES[wire])
    daemon.start()
    before = daemon.post("r", "start")
    wait_for(lambda: daemon.info("r")["heartbeat"]["state"] == "alive", "a heartbeat")
    done = daemon.folder / "done"
    with client(before["connection_file"]) as attached:
        # For longer than the misses and the question on shell that follows them.
        begin(attached, f"cat('begun\\n'); flush.console(); Sys.sleep(8); file.create('{done}')")
        wait_for(lambda: daemon.info("r")["execution_state"] == "busy", "it to be busy")
        wait_for(done.exists, "the cell to end")
        after = daemon.info("r")
        assert (after["pid"], after["restarts"], after["state"]) == (before["pid"], 0, "running")
        wait_for(lambda: daemon.info("r")["heartbeat"]["state"] == "alive", "a heartbeat")
    wait_for(
        lambda: json.loads(daemon.record("r").read_bytes())["habits"]["silent_busy"],
        "the daemon to note that it answers none during a cell",
    )


@pytest.mark.languages
@needs_r
def test_a_kernel_that_answers_nothing_on_control_is_not_unresponsive(daemon: Daemon) -> None:
    daemon.profile("r", "kernel: ir\nheartbeat: {interval: infinity}\n")
    daemon.start()
    before = daemon.post("r", "start")
    daemon.kill()
    daemon.start()
    wait_for(lambda: daemon.info("r")["execution_state"] == "idle", "its answer")
    why = [one["what"] for one in daemon.get("/v1/kernels/r/why")["decisions"]]
    assert "unresponsive" not in why
    after = daemon.info("r")
    assert (after["pid"], after["heartbeat"]["state"]) == (before["pid"], "unknown")
    assert after["reason"] == before["reason"]


@pytest.mark.nightly
def test_a_kernel_that_hangs_is_restarted_where_its_profile_says_so(daemon: Daemon) -> None:
    daemon.profile("lab", IPYKERNEL + "heartbeat: {interval: 500ms, misses: 2, action: restart}\n")
    daemon.start()
    before = daemon.post("lab", "start")
    wait_for(lambda: daemon.info("lab")["heartbeat"]["state"] == "alive", "a heartbeat")
    os.kill(before["pid"], signal.SIGSTOP)
    wait_for(lambda: daemon.info("lab")["restarts"] == 1, "the restart")
    after = daemon.wait_state("lab", "running")
    assert after["pid"] != before["pid"]


def test_a_stopped_kernel_is_not_alive(daemon: Daemon) -> None:
    daemon.profile("lab", IPYKERNEL + "heartbeat: {interval: 500ms}\n")
    daemon.start()
    daemon.post("lab", "start")
    wait_for(lambda: daemon.info("lab")["heartbeat"]["state"] == "alive", "a heartbeat")
    stopped = daemon.post("lab", "stop")
    assert stopped["heartbeat"] == {"state": "unknown", "last_at": None}
