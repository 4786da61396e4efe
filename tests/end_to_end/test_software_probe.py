"""A probe by a real daemon: what the next start does, and what is left if one of the two dies."""

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.conftest import wait_for
from tests.end_to_end.daemon import SMALL, Connection, Daemon, DaemonError

AUTO = SMALL.replace("transport: ipc\n", "")
# It is probed for long, because it does not exit after its reply to the shutdown request.
STAYS = f"{AUTO}env: {{SMALL_KERNEL_STAYS: '1'}}\n"


def facts(reply: dict[str, Any]) -> dict[str, Any]:
    return {row["fact"]: row["value"] for row in reply["facts"]}


def processes(daemon: Daemon) -> list[int]:
    """List the kernels with a connection file of a kernel without a name."""
    live = f"{daemon.runtime}/live/small~"
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "status"])
        if any(word.startswith(live) for word in process.info["cmdline"] or ())
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def wait_until_clean(daemon: Daemon) -> None:
    wait_for(lambda: not processes(daemon), "the kernel to end")
    live = daemon.runtime / "live"
    wait_for(lambda: not list(live.glob("*~*")), "its files to go")
    wait_for(lambda: not list(daemon.state.glob("warm/*")), "its link to go")
    assert not list((daemon.runtime / "ipc").glob("*~*"))


@contextlib.contextmanager
def probing(daemon: Daemon) -> Iterator[Connection]:
    """Request a probe, and wait until its first kernel runs."""
    connection = Connection(daemon.socket)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/kernels/small/probe", "{}")
        wait_for(lambda: processes(daemon), "the kernel of the probe")
        yield connection


def test_the_next_start_uses_what_a_probe_has_found(daemon: Daemon) -> None:
    daemon.profile("small", AUTO)
    daemon.start()
    before = daemon.post("small", "start")
    assert before["connection"]["transport"] == "tcp"
    reply = daemon.post("small", "probe")
    assert {"unix_sockets": True, "curve": False, "exits_after_shutdown": True}.items() <= facts(
        reply
    ).items()
    wait_until_clean(daemon)
    assert daemon.info("small")["pid"] == before["pid"]
    daemon.post("small", "stop")
    assert daemon.post("small", "start")["connection"]["transport"] == "ipc"
    daemon.post("small", "stop")
    assert daemon.post("small", "probe", forget=True) == {"name": "small", "forgotten": True}
    assert json.loads((daemon.state / "capabilities.json").read_bytes())["kernels"] == {}
    assert daemon.post("small", "start")["connection"]["transport"] == "tcp"


def test_a_killed_daemon_leaves_the_kernel_to_the_next_one(daemon: Daemon) -> None:
    daemon.profile("small", STAYS)
    daemon.start()
    with probing(daemon):
        daemon.kill()
    assert processes(daemon)
    daemon.start()
    wait_until_clean(daemon)


def test_a_client_that_hangs_up_ends_the_probe(daemon: Daemon) -> None:
    daemon.profile("small", STAYS)
    daemon.start()
    with probing(daemon):
        pass
    wait_until_clean(daemon)
    assert daemon.info("small")["state"] == "stopped"


def test_a_daemon_that_is_ended_ends_its_probe(daemon: Daemon) -> None:
    daemon.profile("small", STAYS)
    daemon.start()
    with probing(daemon):
        daemon.end()
    wait_until_clean(daemon)


def test_other_requests_are_answered_during_a_probe(daemon: Daemon) -> None:
    daemon.profile("small", STAYS)
    daemon.start()
    replies: list[Any] = []
    with probing(daemon):
        thread = threading.Thread(target=lambda: replies.append(daemon.post("small", "start")))
        thread.start()
        thread.join(30)
    assert replies
    assert replies[0]["state"] == "running"


def test_a_kernel_that_does_not_start_is_told_with_its_output(daemon: Daemon) -> None:
    daemon.profile("small", "argv: [/bin/sh, -c, 'echo broken; exit 3', '{connection_file}']\n")
    daemon.start()
    with pytest.raises(DaemonError, match="exited with code 3") as failed:
        daemon.post("small", "probe")
    assert "broken" in failed.value.output
    wait_until_clean(daemon)


def test_sockets_that_a_kernel_has_bound_elsewhere_are_removed(daemon: Daemon) -> None:
    daemon.profile("small", f"{AUTO}env: {{SMALL_KERNEL_WIRE: colon}}\n")
    daemon.start()
    assert facts(daemon.post("small", "probe"))["unix_sockets"] is False
    wait_until_clean(daemon)
