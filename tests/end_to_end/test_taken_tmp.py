"""Another user has taken /tmp/kconnd-UID first: real daemons and kernels in a /tmp of their own."""

import json
import sys
from pathlib import Path

import pytest

from tests.end_to_end.container import CTL, SHARED, Container, needs_namespaces
from tests.end_to_end.daemon import SMALL

TAKEN = {
    "a folder": "mkdir -m 777 /tmp/kconnd-0 && chown nobody /tmp/kconnd-0",
    "a file": "touch /tmp/kconnd-0 && chown nobody /tmp/kconnd-0",
    "a link to our own home": "ln -s /mnt /tmp/kconnd-0 && chown -h nobody /tmp/kconnd-0",
}
# A socket that answers as a daemon would: it must be asked nothing.
LISTEN = """
import os, socket
os.setuid(65534)
server = socket.socket(socket.AF_UNIX)
server.bind("/tmp/kconnd-0/kconnd.sock")
server.listen()
if os.fork() == 0:
    for ours in (1, 2):
        os.dup2(os.open("/dev/null", os.O_WRONLY), ours)
    server.accept()[0].recv(100)
    open("/tmp/kconnd-0/heard", "w")
"""


@pytest.fixture
def home(folder: Path) -> Path:
    configs = folder / ".config/kconnd/configs"
    configs.mkdir(parents=True)
    (configs / "lab.yaml").write_text(SMALL, encoding="utf-8")
    return folder


@needs_namespaces
@pytest.mark.parametrize("how", TAKEN)
def test_the_daemon_uses_another_private_folder_and_is_found_in_it(home: Path, how: str) -> None:
    with Container(home, "one") as machine:
        machine.run("sh", "-c", TAKEN[how])
        if how == "a folder":
            machine.run(sys.executable, "-c", LISTEN)
        machine.ctl("start", "lab")
        lab = machine.info("lab")
        folder = Path(lab["connection_file"]).parent
        assert folder.name.startswith("kconnd-0-")
        about = machine.root(str(folder)).stat()
        assert (about.st_uid, about.st_mode & 0o777) == (0, 0o700)

        machine.kill_daemon()
        machine.run("sh", "-c", "rm -rf /tmp/kconnd-0")  # whoever took it may let go of it
        machine.ctl("start", "lab")
        assert machine.info("lab")["pid"] == lab["pid"]
        assert machine.info("lab")["connection_file"] == lab["connection_file"]
        log = (home / ".local/state/kconnd").glob("*/daemon.log")
        assert "another user has taken /tmp/kconnd-0" in next(log).read_text(encoding="utf-8")


@needs_namespaces
def test_a_stranger_who_listens_in_the_usual_place_is_not_asked(home: Path) -> None:
    with Container(home, "one") as machine:
        machine.run("sh", "-c", TAKEN["a folder"])
        machine.run(sys.executable, "-c", LISTEN)
        done = machine.run(*CTL, "list", code=6)
        assert "no kconnd daemon answers on" in done.stderr
        machine.ctl("start", "lab")
        assert json.loads(machine.ctl("list", "--json").stdout)["kernels"][0]["name"] == "lab"
        assert not machine.root("/tmp/kconnd-0/heard").exists()


@pytest.mark.nightly
@needs_namespaces
def test_a_folder_that_others_can_enter_stands_in_for_nothing(home: Path) -> None:
    with Container(home, "one") as machine:
        bad = "/tmp/kconnd-0-0123456789abcdef"
        theirs = "/tmp/kconnd-0-0000000000000000"
        machine.run("sh", "-c", TAKEN["a folder"])
        machine.run("sh", "-c", f"mkdir -m 755 {bad}; mkdir -m 700 {theirs}; chown nobody {theirs}")
        machine.ctl("start", "lab")
        assert Path(machine.info("lab")["connection_file"]).parent.name not in {
            Path(bad).name,
            Path(theirs).name,
        }
        assert SHARED.is_dir()
