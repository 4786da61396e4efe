"""A kernel is called ready only if a new client can attach to it."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.end_to_end.daemon import IPYKERNEL, SMALL, SMALL_KERNEL, Daemon, DaemonError, run
from tests.end_to_end.test_ctl import ctl
from tests.end_to_end.test_survival import fill

# A small kernel that binds these channels elsewhere than its connection file says.
ASTRAY = """\
import json, pathlib, runpy, socket, sys
file, *channels = sys.argv[1:]
wire = json.loads(pathlib.Path(file).read_bytes())
for channel in channels:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        wire[f"{channel}_port"] = free.getsockname()[1]
own = pathlib.Path(file + ".own")
own.write_text(json.dumps(wire))
sys.argv = ["small", str(own)]
runpy.run_path(sys.path.pop(), run_name="__main__")
"""


def _astray(folder: Path, *channels: str) -> str:
    script = folder / "astray.py"
    script.write_text(ASTRAY.replace("sys.path.pop()", repr(str(SMALL_KERNEL))), encoding="utf-8")
    words = ", ".join((str(sys.executable), str(script), "'{connection_file}'", *channels))
    return f"argv: [{words}]\ntransport: tcp\nencryption: none\nstartup_timeout: 2s\n"


def _is_not_ready(daemon: Daemon, fault: str) -> None:
    """See that nobody calls it ready, and that all say why not and what to do."""
    for words in (("start", "lab"), ("wait", "lab", "--timeout", "20s")):
        done = ctl(daemon, *words)
        assert (done.code, done.out) == (1, ""), words
        assert "it runs, and no new client can attach" in done.err
        assert re.search(fault, done.err), done.err
        assert "kconnd-ctl restart lab" in done.err
    info = ctl(daemon, "info", "lab")
    assert "ready" not in info.out.replace("ready after", "")
    assert re.search(f"no new client can: .*{fault}", info.out)
    assert re.search(fault, daemon.info("lab")["unreachable"])
    assert "no new client can attach" in ctl(daemon, "list").out
    with pytest.raises(DaemonError, match="no new client can attach"):
        daemon.post("lab", "start", on_demand=True)  # as console, qtconsole and run ask


def _is_ready_again(daemon: Daemon) -> None:
    assert ctl(daemon, "restart", "lab").out.startswith("lab is ready")
    assert ctl(daemon, "wait", "lab").code == 0
    assert daemon.info("lab")["unreachable"] is None


def test_one_whose_sockets_were_deleted(daemon: Daemon) -> None:
    daemon.profile("lab", IPYKERNEL + "stop_timeout: 500ms\n")
    daemon.start()
    info = daemon.post("lab", "start")
    assert daemon.info("lab")["unreachable"] is None
    (daemon.runtime / "ipc" / "lab-2").unlink()
    wait_for(lambda: daemon.info("lab")["unreachable"], "a look-up to tell of it")
    _is_not_ready(daemon, r"nothing listens on its iopub channel \(.*/ipc/lab-2\)")
    daemon.kill()
    shutil.rmtree(daemon.runtime / "ipc")
    daemon.start()  # as for a daemon that did not see it happen
    _is_not_ready(daemon, "nothing listens on its shell, iopub, control and hb channels")
    os.kill(info["pid"], 0)
    _is_ready_again(daemon)
    assert run(daemon.info("lab")["connection_file"], "print(1)") == "1\n"


def test_one_whose_connection_file_cannot_be_written_again(daemon: Daemon) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: to mount a file system")
    daemon.runtime.mkdir(mode=0o700)
    mount = ("/bin/mount", "-t", "tmpfs", "-o", "size=1M,mode=700", "none", str(daemon.runtime))
    subprocess.run(mount, check=True)
    try:
        daemon.profile("lab", SMALL)
        daemon.start()
        file = Path(daemon.post("lab", "start")["connection_file"])
        file.unlink()
        assert ctl(daemon, "start", "lab").code == 0, "it is written again"
        assert file.exists()
        filler = fill(daemon.runtime)
        file.unlink()
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as stream:
            for _ in range(100):
                stream.write(b"x" * 100)  # into the room that it took
        _is_not_ready(daemon, "its connection file cannot be read: .*No such file")
        filler.unlink()
        wait_for(file.exists, "it to be written, since there is room")
        wait_for(lambda: daemon.info("lab")["unreachable"] is None, "it to be ready")
        daemon.post("lab", "stop")
        daemon.end()
    finally:
        subprocess.run(["/bin/umount", "-l", str(daemon.runtime)], check=True)


def test_one_that_publishes_on_another_port_than_it_was_told(daemon: Daemon, folder: Path) -> None:
    daemon.profile("lab", _astray(folder, "iopub"))
    daemon.start()
    _is_not_ready(daemon, r"nothing listens on its iopub channel \(\d+\); instead it has")
    daemon.profile("lab", _astray(folder))
    daemon.ask("POST", "/v1/reload")
    _is_ready_again(daemon)


@pytest.mark.nightly
def test_one_whose_heartbeat_port_is_another_programs(daemon: Daemon, folder: Path) -> None:
    daemon.profile("lab", _astray(folder, "hb"))
    daemon.start()
    _is_not_ready(daemon, r"nothing listens on its hb channel")
    wire = json.loads(Path(daemon.info("lab")["connection_file"]).read_bytes())
    with contextlib.closing(socket.create_server(("127.0.0.1", wire["hb_port"]))):
        _is_not_ready(daemon, r"another program listens on its hb channel \(\d+\)")


def test_one_that_listens_where_nobody_was_told_is_explained(daemon: Daemon, folder: Path) -> None:
    """As IRkernel, xeus and others do that choose ports by themselves."""
    daemon.profile("lab", _astray(folder, "shell", "iopub", "stdin", "control", "hb"))
    daemon.start()
    with pytest.raises(DaemonError, match="no answer to kernel_info_request within 2 s") as caught:
        daemon.post("lab", "start")
    assert "it does not follow its connection file" in caught.value.hint
    assert re.search(r"instead it has bound \d+, \d+, \d+, \d+, \d+", caught.value.hint)
