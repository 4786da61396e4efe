"""What a real daemon says of a real kernel is taken whole by another user's client.

Nothing is lost where a daemon is honest: the readers of `kconnd.core.untrusted_reply` know each
field and form that replies have in each state of a kernel's life.
"""

import sys
from pathlib import Path
from typing import Any

import pytest

from kconnd.core.launch.connection import parse_connection, parse_foreign_connection
from kconnd.core.untrusted_reply import validate_reply
from tests.end_to_end.daemon import Daemon

SMALL = Path(__file__).with_name("small_kernel.py")
LAB = "/v1/kernels/lab"


def taken(path: str, reply: dict[str, Any]) -> dict[str, Any]:
    """Take a reply as another user's client does."""
    return validate_reply(path, reply, 4711, "ada")


def same(path: str, reply: dict[str, Any]) -> None:
    expected = {**reply, "owner": "ada", "uid": 4711} if "state" in reply else reply
    assert taken(path, reply) == expected


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_nothing_of_an_honest_daemon_is_lost(daemon: Daemon, transport: str) -> None:
    argv = f"[{sys.executable}, {SMALL}, '{{connection_file}}']"
    daemon.profile(
        "lab", f"argv: {argv}\ntransport: {transport}\nencryption: none\nlauncher: local\n"
    )
    daemon.start()
    same(LAB, daemon.info("lab"))
    for verb in ("start", "restart", "interrupt", "stop", "start"):
        same(f"{LAB}/{verb}", daemon.post("lab", verb))
        same(LAB, daemon.info("lab"))
    for path in (f"{LAB}/why", f"{LAB}/wait?for=ready", "/v1/health"):
        same(path, daemon.get(path))
    content = daemon.get(f"{LAB}/connection")
    same(f"{LAB}/connection", content)
    assert parse_foreign_connection(content) == parse_connection(content)
    listed = daemon.get("/v1/kernels")
    (row,) = taken("/v1/kernels", listed)["kernels"]
    same(LAB, listed["kernels"][0])
    assert row["name"] == "lab"
    for path in (f"{LAB}/logs?lines=5", "/v1/events"):
        with daemon.stream(path) as lines:
            for line in lines:
                same(path, line)
    daemon.post("lab", "signal", signal="KILL")
    same(LAB, daemon.info("lab"))
