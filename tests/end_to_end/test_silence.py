"""A kernel that reports idle and answers on control and heartbeat, and runs no cell any more."""

from pathlib import Path

from tests.conftest import wait_for
from tests.end_to_end.daemon import IPYKERNEL, Daemon, run
from tests.end_to_end.test_ctl import ctl

# A callback of the event loop that returns only once a file exists. It begins after the cell.
HANG = """
import asyncio, pathlib, time
def hang():
    pathlib.Path({begun!r}).touch()
    while not pathlib.Path({end!r}).exists(): time.sleep(0.05)
_ = asyncio.get_running_loop().call_later(1, hang)
"""


def test_it_is_not_called_idle_and_its_user_learns_why(daemon: Daemon, tmp_path: Path) -> None:
    """One kernel for all commands, of which an interrupt takes the 5 s that it has."""
    begun, end = tmp_path / "begun", tmp_path / "end"
    daemon.profile("lab", IPYKERNEL)
    daemon.start()
    info = daemon.post("lab", "start")
    run(info["connection_file"], HANG.format(begun=str(begun), end=str(end)))
    wait_for(begun.exists, "it to hang")
    wait_for(lambda: daemon.get("/v1/kernels/lab?check=1")["unanswered"], "a check to find it")
    shown = ctl(daemon, "info", "lab").out
    assert "unknown, last" in shown
    assert "it reports idle, but has not answered on its shell channel for" in shown
    assert "although its control channel answers" in shown
    assert "kconnd-ctl restart lab replaces it" in shown
    assert "does not answer on its shell channel" in ctl(daemon, "list").out
    done = ctl(daemon, "run", "lab", "-c", "1", "--timeout", "5s")
    assert (done.code, done.out) == (1, "")
    assert "waiting for lab: it reports idle, but has not answered" in done.err
    done = ctl(daemon, "interrupt", "lab")
    assert done.code == 1
    assert "the kernel has not answered on its shell channel for" in done.err
    assert daemon.info("lab")["heartbeat"]["state"] == "alive"
    end.touch()
    wait_for(lambda: daemon.info("lab")["execution_state"] == "idle", "it to answer")
    assert daemon.info("lab")["unanswered"] is None
