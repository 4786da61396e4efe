"""A hostile user, eve, whose program replies on the socket of her daemon, on a real machine.

Eve's unit runs a program of hers in place of her daemon. She could do that in other ways too, since
the daemon is her process. Her replies try to make other users, and root, act on other kernels.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kconnd.core.launch.connection import ConnectionInfo
from tests.cli.fake_daemon import kernel as described
from tests.conftest import wait_for
from tests.server.box import Box

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

HOSTILE = """
import json, socket
listener = socket.socket(fileno=3)
replies = json.load(open("/opt/eve/replies.json"))
while True:
    connection, _ = listener.accept()
    with connection:
        request = connection.recv(65536).decode()
        with open("/opt/eve/saw", "a") as saw:
            saw.write(request.partition("\\r\\n")[0] + "\\n")
        words = request.split(" ", 2)
        verb = words[1].partition("?")[0].rpartition("/")[2] if len(words) > 1 else ""
        status, body = replies.get(verb, replies["*"])
        text = b" " * body["blanks"] if "blanks" in body else json.dumps(body).encode()
        head = "HTTP/1.1 %d X\\r\\nContent-Length: %d\\r\\n\\r\\n" % (status, len(text))
        try:
            connection.sendall(head.encode() + text)
        except OSError:
            pass
"""
Says = Callable[..., None]


@pytest.fixture
def kernel(box: Box) -> int:
    """Give the pid of a kernel of ada, which has a variable set."""
    box.run("kconnd-ctl start python3", "ada")
    box.run("kconnd-ctl run python3 -c 'kept = 6 * 7'", "ada")
    return box.pid("python3", "ada")


@pytest.fixture
def eve_says(box: Box) -> Iterator[Says]:
    """Give a function that makes eve's program listen with a reply for each verb."""
    uid = box.uid("eve")
    folder = f"/etc/systemd/system/kconnd@{uid}.service.d"
    box.write("/opt/eve/hostile.py", HOSTILE)
    box.run("chown -R eve /opt/eve")
    lines = ["Type=simple", "WatchdogSec=0", "ExecStart="]
    lines.append("ExecStart=/usr/bin/python3 /opt/eve/hostile.py")
    box.write(f"{folder}/hostile.conf", "\n".join(["[Service]", *lines, ""]))
    box.run("systemctl daemon-reload")

    def says(**replies: Any) -> None:
        replies["*"] = replies.pop("otherwise", (404, error("no-such-kernel")))
        box.write("/opt/eve/replies.json", json.dumps(replies))
        box.run(f"rm -f /opt/eve/saw; systemctl stop kconnd@{uid}.service")
        box.run(f"systemctl start kconnd@{uid}.socket kconnd@{uid}.service")
        assert box.run(f"ps -o user= -p {box.main_pid(f'kconnd@{uid}.service')}").out == "eve\n"

    yield says
    box.run(f"rm -r {folder} /opt/eve; systemctl daemon-reload")
    box.run(f"systemctl stop kconnd@{uid}.service")


def error(code: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": "go away", "hint": "", **fields}}


def elsewhere(owner: str) -> tuple[int, dict[str, Any]]:
    return 421, error("elsewhere", owner=owner)


def saw(box: Box) -> list[str]:
    return box.run("cat /opt/eve/saw").out.splitlines()


def remembers(box: Box, pid: int) -> bool:
    assert box.pid("python3", "ada") == pid
    return box.run("kconnd-ctl run python3 -c 'print(kept)'", "ada").out == "42\n"


def test_whoever_asks_her_does_nothing_to_anybody_else(
    box: Box, kernel: int, eve_says: Says
) -> None:
    """A client that believed eve would, as root, stop ada's kernel and start a daemon for max."""
    boot = f"/var/lib/kconnd/boot/{box.uid('max')}"
    smuggled = "max/open HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nPOST /v1/boot"
    for owner in ("ada", "max", smuggled):
        eve_says(otherwise=elsewhere(owner))
        for verb in ("stop eve/python3 --yes", "info eve/python3", "restart eve/python3"):
            for user in ("root", "bob"):
                done = box.try_(f"kconnd-ctl {verb}", user)
                assert (done.code, done.out) == (4, ""), done
                assert "the daemon of eve says: go away" in done.err
        assert len(saw(box)) == 6
        assert box.try_(f"test -e {boot}").code == 1
        active = box.run("systemctl list-units --plain --no-legend 'kconnd@*.service'").out
        assert f"kconnd@{box.uid('max')}.service" not in active
    assert remembers(box, kernel)


def test_code_that_is_for_her_kernel_runs_in_no_kernel_of_ones_own(
    box: Box, kernel: int, eve_says: Says
) -> None:
    uid = box.uid("ada")
    own = f"/run/kconnd/u/{uid}/kernel-python3.json"
    info = box.ctl("info python3", "ada")
    content = box.ctl("connection python3", "ada")
    hers = described("python3", owner="ada", connection_file=own, generation=1, uid=uid)
    tcp = ConnectionInfo("tcp", "127.0.0.1", (22, 5001, 5002, 5003, 5004), "key").to_file()
    for connection in (content, tcp, {**content, "ip": f"{content['ip']}/../python3"}):
        eve_says(start=(200, {**hers, "uid": uid}), connection=(200, connection))
        done = box.try_("kconnd-ctl run eve/python3 -c 'kept = 0'", "ada")
        assert (done.code, done.out) == ((5, "") if connection in (content, tcp) else (6, "")), done
        assert saw(box) == [
            "POST /v1/kernels/python3/start HTTP/1.1",
            "GET /v1/kernels/python3/connection HTTP/1.1",
        ]
        for verb in ("console", "qtconsole"):
            done = box.try_(f"kconnd-ctl {verb} eve/python3 --json", "ada")
            assert done.code in {5, 6}, done
            assert "connection_file" not in done.out
    assert box.try_(f"ls /run/kconnd/u/{uid}/shared/kernel-eve-python3.json").code != 0
    assert box.pid("python3", "ada") == info["pid"]
    assert remembers(box, kernel)


def test_root_connects_to_no_socket_of_anybody_elses(box: Box, kernel: int, eve_says: Says) -> None:
    """Root may open every path, so a path that eve's daemon names must not be opened."""
    uid = box.uid("eve")
    ada = box.ctl("connection python3", "ada")["ip"]
    folder = f"/run/kconnd/u/{uid}/ipc"
    box.run(f"install -d -o eve -m 700 /run/kconnd/u/{uid} {folder}")
    box.run(f"for n in 1 2 3 4 5; do ln -sf {ada}-$n {folder}/link-$n; done", "eve")
    hers = described("python3")
    for path in (ada, f"{folder}/link", f"{folder}/none", "/run/systemd/private"):
        ipc = ConnectionInfo("ipc", path, (1, 2, 3, 4, 5), "key").to_file()
        eve_says(start=(200, hers), connection=(200, ipc))
        done = box.try_("kconnd-ctl run eve/python3 -c 'kept = 0'")
        assert (done.code, done.out) == (5, ""), done
        assert "so nothing was sent there" in done.err
    assert remembers(box, kernel)


def test_what_she_lists_steers_no_terminal_and_is_hers(
    box: Box, kernel: int, eve_says: Says
) -> None:
    rows = [
        described("good", pid=kernel, owner="root", reason="\x1b]0;root\x07"),
        described("../../etc"),
        described("bad", restarts="many"),
    ]
    eve_says(kernels=(200, {"kernels": rows}))
    found = box.ctl("list --all-users", "root")["kernels"]
    assert [(one["name"], one["pid"], one["reason"]) for one in found if one["owner"] == "eve"] == [
        ("eve/good", None, "?]0;root?")
    ]
    assert kernel in [one["pid"] for one in found if one["owner"] == "ada"]
    assert "\x1b" not in box.run("kconnd-ctl list --all-users").out
    eve_says(good=(200, rows[0]))
    assert box.ctl("info eve/good", "root")["pid"] is None
    assert remembers(box, kernel)


def test_an_answer_that_never_ends_ends_for_whoever_asked(box: Box, eve_says: Says) -> None:
    eve_says(otherwise=(200, {"blanks": 5 << 20}))
    done = box.try_("kconnd-ctl info eve/python3", "ada")
    assert (done.code, "no valid length" in done.err) == (6, True)
    wait_for(lambda: len(saw(box)) == 1, "her program to have seen it")
