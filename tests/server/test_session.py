"""Whose session a kernel inherits from on a server: its owner's, and never another user's."""

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from kconnd.core.paths import owner_socket
from tests.server.box import Box

SHARED = "kernel: python3\nuser: ada\naccess: {manage: [bob]}\npass_env: [TOKEN]\n"
SEEN = "import json, os; m = os.umask(0); os.umask(m); print(json.dumps([dict(os.environ), m]))"
EVIL = "export TOKEN=evil http_proxy=evil LANG=evil PATH=/evil:$PATH; umask 0"
# A client that sends its session to another user's daemon, as kconnd-ctl does not.
SEND = """\
import http.client, json, socket, sys
connection = http.client.HTTPConnection("x")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[1])
session = {"path": "/evil", "umask": 0, "variables": {"TOKEN": "evil"}, "requested": ["TOKEN"]}
connection.request("POST", "/v1/kernels/ours/" + sys.argv[2], json.dumps({"session": session}))
print(connection.getresponse().status)
"""


@pytest.fixture
def ours(box: Box) -> Iterator[str]:
    """Share a profile of ada's with bob, who may manage its kernel."""
    path = "/etc/kconnd/configs/ours.yaml"
    box.write(path, SHARED)
    box.run("kconnd-ctl reload", "ada")
    yield "ours"
    box.run(f"kconnd-ctl stop ours --yes; rm {path}; kconnd-ctl reload", "ada")


def seen(box: Box) -> tuple[dict[str, str], int]:
    """Return the environment and the umask of the kernel."""
    run = box.run(f"kconnd-ctl run ours -c {shlex.quote(SEEN)}", "ada")
    env, umask = json.loads(run.out)
    return env, umask


def session_of(box: Box) -> Any:
    return box.ctl("info ours", "ada")["session"]


def test_the_session_of_who_may_manage_a_kernel_is_never_used(box: Box, ours: str) -> None:
    socket = owner_socket(box.uid("ada"))
    python = box.run("readlink -f $(which kconnd-ctl) | xargs head -1").out.strip()[2:]
    box.run(f"{EVIL}; kconnd-ctl start ada/{ours}", "bob")
    env, umask = seen(box)
    assert "evil" not in json.dumps(env)
    assert umask == 0o022
    unsent = session_of(box)
    assert (unsent["variables"], unsent["unsent"]) == ([], ["TOKEN"])
    why = box.run(f"kconnd-ctl why {ours}", "ada").out
    assert "no client of ada has sent TOKEN (pass_env)" in why
    box.run(f"TOKEN=mine; export TOKEN; umask 027; kconnd-ctl restart {ours}", "ada")
    mine = session_of(box)
    assert seen(box)[0]["TOKEN"] == "mine"
    for verb in ("restart", "stop", "start"):
        status = box.run(f"{python} -c {shlex.quote(SEND)} {socket} {verb}", "bob").out
        assert status == "200\n"
    env, umask = seen(box)
    assert (env["TOKEN"], umask) == ("mine", 0o027)
    assert "evil" not in env["PATH"]
    assert session_of(box) == mine
    box.run(f"{EVIL}; kconnd-ctl restart ada/{ours}", "root")
    assert seen(box)[0]["TOKEN"] == "mine"
    record = f"/var/lib/kconnd/u/{box.uid('ada')}/kernels/{ours}/record.json"
    assert box.run(f"stat -c '%U %a' {record}").out == "ada 600\n"
    assert box.try_(f"kconnd-ctl info {ours} --json", "bob").json()["session"] is None
