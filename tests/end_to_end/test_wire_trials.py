"""What starts learn of a kernel's wire, and the fallback within one start, on small kernels."""

import json
import os
import re
import sys
import time
from typing import Any

import pytest

from kconnd.core.launch.wire import MIN_TRIAL_S
from tests.conftest import wait_for
from tests.end_to_end.daemon import SMALL, Daemon, DaemonError

AUTO = SMALL.replace("transport: ipc\n", "")


def stubborn(way: str, text: str = AUTO, gate: str = "") -> str:
    """Return the profile of a small kernel that does not use Unix sockets; see small_kernel.py."""
    return f"{text}env: {{SMALL_KERNEL_WIRE: {way}, SMALL_KERNEL_GATE: '{gate}'}}\n"


def learned(daemon: Daemon) -> dict[str, Any]:
    content = json.loads((daemon.state / "capabilities.json").read_bytes())
    (kernel,) = content["kernels"].values()
    return {name: fact["value"] for name, fact in kernel["facts"].items()}


def start(daemon: Daemon) -> dict[str, Any]:
    """Start the kernel and stop it again; return how it was connected."""
    daemon.post("small", "start")
    info: dict[str, Any] = daemon.info("small")
    daemon.post("small", "stop")
    assert os.listdir(daemon.runtime / "ipc") == []  # noqa: PTH208  # names suffice
    return info


def reasons(daemon: Daemon) -> list[str]:
    return [one["reason"] for one in daemon.get("/v1/kernels/small/why")["decisions"]]


def test_a_second_start_finds_that_unix_sockets_are_spoken(daemon: Daemon) -> None:
    daemon.profile("small", AUTO)
    daemon.start()
    first = start(daemon)
    assert first["connection"]["transport"] == "tcp"
    assert first["warnings"]
    second = start(daemon)
    assert second["connection"]["transport"] == "ipc"
    assert not second["warnings"]
    assert learned(daemon)["unix_sockets"] is True
    daemon.end()
    daemon.start()
    assert start(daemon)["connection"]["transport"] == "ipc"


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("exit", "exited with code 1, before it was ready; trying plain tcp"),
        ("ports", "it listens on the tcp ports"),
        ("colon", "ipc/small:1 and similar paths"),
    ],
)
def test_a_start_falls_back_to_tcp_and_the_next_ones_know(
    daemon: Daemon, way: str, reason: str
) -> None:
    daemon.profile("small", stubborn(way))
    daemon.start()
    start(daemon)
    trial = start(daemon)
    assert (trial["connection"]["transport"], trial["connection"]["encrypted"]) == ("tcp", False)
    assert (trial["state"], trial["restarts"], trial["failures"]) == ("running", 0, 0)
    assert any(reason in text for text in reasons(daemon)), reasons(daemon)
    assert learned(daemon)["unix_sockets"] is False
    assert "curve" not in learned(daemon)
    start(daemon)  # it tries CURVE, which the small kernel ignores
    assert any("does not encrypt" in text for text in reasons(daemon))
    assert learned(daemon)["curve"] is False
    before = len(reasons(daemon))
    assert start(daemon)["connection"]["transport"] == "tcp"
    assert not any("trying" in text for text in reasons(daemon)[before:])


def test_a_kernel_that_is_silent_is_waited_for_three_usual_starts(daemon: Daemon) -> None:
    daemon.profile("small", stubborn("silent"))
    daemon.start()
    start(daemon)
    trial = start(daemon)
    assert trial["connection"]["transport"] == "tcp"
    # On a loaded machine, the first start was slow, and the limit is longer.
    spans = re.findall(r"no answer on Unix sockets within ([0-9.]+) s", " ".join(reasons(daemon)))
    assert spans, reasons(daemon)
    assert min(map(float, spans)) >= MIN_TRIAL_S
    assert learned(daemon)["unix_sockets"] is False


def test_a_restart_during_a_trial_tries_again_and_falls_back(daemon: Daemon) -> None:
    daemon.profile("small", stubborn("silent"))
    daemon.start()
    start(daemon)
    daemon.post("small", "start", wait=False)
    wait_for(lambda: daemon.info("small")["state"] == "starting", "the trial")
    assert daemon.info("small")["connection"]["transport"] == "ipc"
    daemon.post("small", "restart")
    assert daemon.info("small")["connection"]["transport"] == "tcp"


def start_without_its_end(daemon: Daemon, way: str) -> None:
    """Start the kernel, and kill the daemon while the kernel tries Unix sockets.

    The kernel uses no socket before the daemon is dead, so the trial cannot end before.
    """
    gate = daemon.folder / "gate"
    daemon.profile("small", stubborn(way, gate=str(gate)))
    daemon.start()
    start(daemon)
    daemon.post("small", "start", wait=False)
    wait_for(lambda: daemon.info("small")["state"] == "starting", "the trial")
    assert daemon.info("small")["connection"]["transport"] == "ipc"
    daemon.kill()
    gate.touch()


@pytest.mark.parametrize("way", ["silent", "ports"])
def test_the_next_daemon_continues_a_trial(daemon: Daemon, way: str) -> None:
    start_without_its_end(daemon, way)
    daemon.start()
    wait_for(lambda: daemon.info("small")["state"] == "running", "the fallback")
    assert daemon.info("small")["connection"]["transport"] == "tcp"
    assert any("trying plain tcp" in text for text in reasons(daemon)), reasons(daemon)
    assert learned(daemon)["unix_sockets"] is False


def test_the_next_daemon_does_not_end_a_trial_whose_kernel_has_bound_a_socket(
    daemon: Daemon,
) -> None:
    """The test takes as long as the trial would."""
    start_without_its_end(daemon, "deaf")
    daemon.start()
    pid = daemon.info("small")["pid"]
    deadline = time.monotonic() + MIN_TRIAL_S + 2
    wait_for(lambda: time.monotonic() > deadline, "the time of a trial")
    info = daemon.info("small")
    assert (info["state"], info["pid"]) == ("starting", pid)
    daemon.post("small", "stop")


def test_a_wire_that_is_asked_for_and_not_spoken_fails_at_once(daemon: Daemon) -> None:
    daemon.profile("small", stubborn("ports", SMALL))
    daemon.start()
    with pytest.raises(DaemonError, match="it listens on the tcp ports"):
        daemon.post("small", "start")
    assert daemon.info("small")["state"] == "failed"


def test_a_restart_keeps_the_wire_although_more_is_known(daemon: Daemon) -> None:
    daemon.profile("small", AUTO)
    daemon.start()
    daemon.post("small", "start")
    first = daemon.info("small")["connection"]
    daemon.post("small", "restart")
    assert daemon.info("small")["connection"] == first
    daemon.post("small", "stop")
    assert start(daemon)["connection"]["transport"] == "ipc"


def test_a_shared_command_is_encrypted_or_refused(daemon: Daemon) -> None:
    """The profile need not say whether the command encrypts, and plain tcp is never chosen."""
    access = "access: {connect: [nobody]}\n"
    ipykernel = f"argv: [{sys.executable}, -m, ipykernel_launcher, -f, '{{connection_file}}']\n"
    daemon.profile("python", ipykernel + access)
    daemon.profile("small", AUTO + access)
    daemon.start()
    daemon.post("python", "start")
    assert daemon.info("python")["connection"]["encrypted"] is True
    with pytest.raises(DaemonError, match="it does not encrypt its channels") as refusal:
        daemon.post("small", "start")
    assert "write encryption: none in the profile if" in refusal.value.hint
    daemon.profile("small", f"{AUTO}{access}encryption: none\n")
    daemon.ask("POST", "/v1/reload")
    daemon.post("small", "start")
    assert daemon.info("small")["connection"]["encrypted"] is False
