"""What a console is told about its kernel: the decision, and the follower with a fake daemon."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kconnd.errors import RefusedError, UnreachableError
from kconnd.jupyter.kernel_follower import (
    Change,
    KernelFollower,
    describe_change,
    is_news,
    reason_of_end,
)
from tests.cli.fake_daemon import FakeDaemon
from tests.conftest import wait_for

RESTARTED = "lab was restarted (restart was requested): its variables are gone"


def state(state: str, generation: int = 1) -> dict[str, Any]:
    return {"state": state, "generation": generation, "reason": "stop was requested"}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (state("running"), state("running"), False),
        (state("launching"), state("running"), False),
        (state("running"), state("stopping"), False),
        (state("running"), state("backoff"), False),
        (state("running"), state("starting", 2), False),  # it is told once it is ready
        (state("running"), state("running", 2), True),
        (state("running"), state("stopped"), True),
        (state("running"), state("failed", 2), True),
        (state("stopped"), state("failed"), False),
        (state("stopped"), state("launching", 2), False),
        (state("stopped"), state("running", 2), True),
        (state("stopped"), state("running"), True),  # an exit that a new daemon found wrong
    ],
)
def test_which_changes_are_news(
    before: dict[str, Any], after: dict[str, Any], *, expected: bool
) -> None:
    assert is_news(before, after) is expected


def test_what_is_said_of_a_change() -> None:
    def say(after: dict[str, Any], reason: str = "killed by SIGKILL", *, same: bool = True) -> str:
        return describe_change("lab", after, reason, same_connection=same).text

    ended = "lab is stopped: stop was requested; kconnd-ctl start lab starts it"
    assert say(state("stopped")) == ended
    assert say({**state("lost"), "reason": ""}).startswith("lab is lost: killed by SIGKILL; ")
    assert say(state("running")) == "lab was restarted (killed by SIGKILL): its variables are gone"
    assert say(state("running"), "") == "lab was restarted: its variables are gone"
    assert "another key (killed by SIGKILL): close this" in say(state("running"), same=False)
    assert not describe_change("lab", state("running"), "", same_connection=False).is_new_process


def test_the_reason_is_that_of_the_last_end() -> None:
    def decisions(*rows: tuple[str, str]) -> list[Mapping[str, Any]]:
        return [{"what": what, "reason": reason} for what, reason in rows]

    crash = [
        ("starting → running", "it answered"),
        ("running → backoff", "killed by SIGKILL"),
        ("backoff → launching", "the back-off time is over"),
        ("starting → running", "it answered"),
    ]
    assert reason_of_end(decisions(*crash)) == "killed by SIGKILL"
    restart = [
        *crash,
        ("running → stopping", "restart was requested"),
        ("stopping → launching", ""),
    ]
    assert reason_of_end(decisions(*restart)) == "restart was requested"
    assert reason_of_end(decisions(("launch 2", "new ports"))) == ""


@pytest.fixture
def fake() -> Iterator[FakeDaemon]:
    folder = tempfile.TemporaryDirectory(prefix="kj-", dir="/tmp")
    with folder as path, FakeDaemon(Path(path, "s")) as daemon:
        daemon.add("lab")
        why = [{"what": "running → stopping", "reason": "restart was requested"}]
        daemon.replies["GET", "/v1/kernels/lab/why"] = {"name": "lab", "decisions": why}
        daemon.replies["GET", "/v1/kernels/lab/connection"] = {"key": "one"}
        yield daemon


def test_each_change_is_reported_once(fake: FakeDaemon) -> None:
    changes: list[Change] = []
    follower = KernelFollower("lab", str(fake.path), changes.append, interval_s=0.01)
    follower.start()
    assert (follower.has_ended, follower.is_busy) == (False, False)
    fake.add("lab", generation=2)
    wait_for(lambda: changes, "the restart to be reported")
    asked = len(fake.requests)
    wait_for(lambda: len(fake.requests) > asked + 3, "further polls")
    fake.add("lab", generation=2, state="stopped", reason="stop was requested")
    wait_for(lambda: len(changes) > 1, "the end to be reported")
    assert follower.has_ended
    fake.replies["GET", "/v1/kernels/lab/connection"] = {"key": "two"}
    fake.add("lab", generation=3)
    wait_for(lambda: len(changes) > 2, "the start to be reported")
    assert [change.is_new_process for change in changes] == [True, False, False]
    assert changes[0].text == RESTARTED
    assert changes[1].text.startswith("lab is stopped: stop was requested")
    assert "another key" in changes[2].text


def test_a_daemon_that_does_not_answer_is_no_end(fake: FakeDaemon) -> None:
    changes: list[Change] = []
    follower = KernelFollower("lab", str(fake.path), changes.append, interval_s=3600.0)
    follower.start()
    fake.replies["GET", "/v1/kernels/lab"] = UnreachableError("no")
    follower.poll()
    assert follower.has_ended is None
    assert not changes
    del fake.replies["GET", "/v1/kernels/lab"]
    fake.kernels.clear()
    follower.poll_now()
    wait_for(lambda: changes, "the removal to be reported")
    assert changes[0].text.startswith("lab is stopped: it was removed")


def test_a_right_that_is_withdrawn_is_reported_once(fake: FakeDaemon) -> None:
    changes: list[Change] = []
    follower = KernelFollower("lab", str(fake.path), changes.append, interval_s=3600.0)
    follower.start()
    fake.replies["GET", "/v1/kernels/lab/connection"] = RefusedError("uid 5 may not connect lab")
    fake.add("lab", generation=2)
    follower.poll()
    assert follower.has_ended
    fake.replies["GET", "/v1/kernels/lab"] = RefusedError("uid 5 may not see lab")
    follower.poll()
    follower.poll()
    assert follower.has_ended is None
    withdrawn = "(restart was requested), and uid 5 may not connect lab: close this console"
    assert [change.text for change in changes] == [
        f"lab has a new process {withdrawn}",
        "lab is not followed any more: uid 5 may not see lab",
    ]


def test_a_process_with_another_key_cannot_answer(fake: FakeDaemon) -> None:
    changes: list[Change] = []
    follower = KernelFollower("lab", str(fake.path), changes.append, interval_s=3600.0)
    follower.start()
    fake.replies["GET", "/v1/kernels/lab/connection"] = {"key": "two"}
    fake.add("lab", generation=2)
    follower.poll()
    assert follower.has_ended
    fake.replies["GET", "/v1/kernels/lab/connection"] = {"key": "one"}
    fake.add("lab", generation=3)
    follower.poll()
    assert not follower.has_ended


def test_words_of_a_daemon_cannot_steer_the_terminal(fake: FakeDaemon) -> None:
    changes: list[Change] = []
    follower = KernelFollower("lab", str(fake.path), changes.append)
    follower.poll()
    decisions = [{"what": "running → stopping", "reason": "\x1b[2Jcleared"}]
    fake.replies["GET", "/v1/kernels/lab/why"] = {"name": "lab", "decisions": decisions}
    fake.add("lab", generation=2)
    follower.poll()
    assert "\x1b" not in changes[0].text
