"""What is learned of a kernel's software changes how it is interrupted and stopped."""

import json
import time
from typing import Any

import pytest

from tests.conftest import wait_for
from tests.end_to_end.daemon import SMALL, Daemon, DaemonError, work_for_ever


def learned(daemon: Daemon) -> dict[str, Any]:
    path = daemon.state / "capabilities.json"
    content: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {"kernels": {}}
    facts: dict[str, Any] = {}
    for kernel in content["kernels"].values():
        facts |= {name: fact["value"] for name, fact in kernel["facts"].items()}
    return facts


def teach(daemon: Daemon, name: str, *, value: bool) -> None:
    """Add a fact to what was learned of the only kernel, while no daemon runs."""
    path = daemon.state / "capabilities.json"
    content = json.loads(path.read_bytes())
    (kernel,) = content["kernels"].values()
    fact = {"value": value, "source": "start", "evidence": "a test says so", "at": 1.0}
    kernel["facts"][name] = fact
    path.write_text(json.dumps(content))


def test_a_kernel_that_an_interrupt_has_ended_is_not_interrupted_again(daemon: Daemon) -> None:
    daemon.profile("small", SMALL + "restart: {policy: no}\n")
    daemon.start()
    daemon.post("small", "start")
    work_for_ever(daemon, "small")
    with pytest.raises(DaemonError, match="ended by the interrupt"):
        daemon.post("small", "interrupt", wait=True)
    wait_for(lambda: learned(daemon).get("survives_sigint") is False, "it to be noted")
    pid = daemon.post("small", "start")["pid"]
    daemon.kill()
    daemon.start()  # also for a kernel that it has adopted
    work_for_ever(daemon, "small")
    with pytest.raises(DaemonError, match="does not survive SIGINT") as refused:
        daemon.post("small", "interrupt")
    assert (refused.value.status, refused.value.code) == (409, "fatal-interrupt")
    assert "restart small" in refused.value.hint
    assert daemon.info("small")["pid"] == pid
    daemon.post("small", "signal", signal="INT")  # asked for by name
    daemon.wait_state("small", "failed")


def test_a_kernel_that_is_known_to_stay_gets_sigterm_after_two_seconds(daemon: Daemon) -> None:
    profile = SMALL.replace("ipc", "tcp") + "env: {SMALL_KERNEL_STAYS: '1'}\n"
    daemon.profile("small", profile)
    daemon.start()
    daemon.post("small", "start")
    daemon.kill()
    teach(daemon, "exits_after_shutdown", value=False)
    daemon.start()
    wait_for(lambda: daemon.info("small")["execution_state"] == "idle", "it to be known as idle")
    began_at = time.monotonic()
    daemon.post("small", "stop")
    assert 1.9 < time.monotonic() - began_at < 8
    assert daemon.info("small")["reason"].endswith("it took SIGTERM")


def test_the_use_of_a_kernel_shows_facts(daemon: Daemon) -> None:
    daemon.profile("small", SMALL)
    daemon.start()
    daemon.post("small", "start")
    shown = {"heartbeat_idle": True, "listens_as_told": True, "rewrites_connection_file": False}
    wait_for(lambda: shown.items() <= learned(daemon).items(), "what the start shows")
    assert "answers_on_control" not in learned(daemon)
    daemon.kill()
    daemon.start()
    wait_for(lambda: learned(daemon).get("answers_on_control") is True, "what the adoption shows")
