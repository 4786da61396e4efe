"""Starting and stopping: what is sent, what is asked first, what is told afterwards."""

import threading
from pathlib import Path
from typing import Any

import pytest

from kconnd.errors import NotRunningError, StartFailedError
from tests.cli.conftest import Ctl, Outcome, on_a_terminal
from tests.cli.fake_daemon import STOPPED, FakeDaemon, Request, without_session


def sent(daemon: FakeDaemon) -> list[tuple[str, Any]]:
    posts = (one for one in daemon.requests if one.method == "POST")
    return [(one.path, without_session(one.body)) for one in posts]


@pytest.mark.parametrize(
    ("arguments", "path", "body"),
    [
        (["start", "a"], "start", {"wait": True}),
        (["start", "a", "--no-wait"], "start", {"wait": False}),
        (["stop", "a"], "stop", {"wait": True, "now": False}),
        (["stop", "a", "--now"], "stop", {"wait": True, "now": True}),
        (["restart", "a"], "restart", {"wait": True, "new_key": False, "now": False}),
        (["restart", "a", "--new-key"], "restart", {"wait": True, "new_key": True, "now": False}),
        (["restart", "a", "--now"], "restart", {"wait": True, "new_key": False, "now": True}),
        (["interrupt", "a"], "interrupt", {"wait": True}),
        (["signal", "a", "-s", "USR1"], "signal", {"signal": "USR1"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_verb_sends_what_it_says(
    arguments: list[str], path: str, body: dict[str, Any], ctl: Ctl, daemon: FakeDaemon
) -> None:
    daemon.add("a")
    shown = ctl(*arguments)
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith("a ")
    assert sent(daemon) == [(f"/v1/kernels/a/{path}", body)]


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_limits_that_are_not_enforced_are_told_after_a_launch(
    verb: str, ctl: Ctl, daemon: FakeDaemon
) -> None:
    daemon.add("a", limits_unenforced="limits.memory is not enforced: why")
    assert ctl(verb, "a").err == "kconnd-ctl: a: limits.memory is not enforced: why\n"
    assert ctl("interrupt", "a").err == ""


def test_several_are_started_side_by_side(ctl: Ctl, daemon: FakeDaemon) -> None:
    """Each start is answered only once all have arrived, so one after the other would hang."""
    names = [f"k{number}" for number in range(8)]
    barrier = threading.Barrier(len(names), timeout=20)

    def answer(request: Request) -> Any:
        barrier.wait()
        return daemon.kernels[request.path.split("/")[3]]

    for name in names:
        daemon.add(name)
        daemon.replies["POST", f"/v1/kernels/{name}/start"] = answer
    shown = ctl("start", *names)
    assert shown.code == 0
    assert [line.split()[0] for line in shown.out.splitlines()] == names


def test_every_name_is_tried_and_the_first_failure_decides(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.add("good")
    daemon.replies["POST", "/v1/kernels/idle/interrupt"] = NotRunningError("idle is stopped")
    shown = ctl("interrupt", "idle", "nosuch", "good")
    assert shown.code == NotRunningError.exit_code
    assert shown.out == "good was sent an interrupt\n"
    assert [line for line in shown.err.splitlines() if "kconnd-ctl: " in line] == [
        "kconnd-ctl: idle is stopped",
        "kconnd-ctl: there is no kernel nosuch",
    ]
    assert ctl("interrupt", "nosuch", "idle").code == 4


@pytest.mark.parametrize(
    ("effect", "text"),
    [
        ("idle", "a was idle; nothing to interrupt"),
        ("ended", "a was interrupted"),
        ("subshell-runs", "a was interrupted; a cell in a subshell still runs"),
        ("sent", "a was sent an interrupt"),
        (None, "a was sent an interrupt"),  # a daemon of an earlier version
    ],
)
def test_only_an_interrupt_with_an_effect_is_called_one(
    ctl: Ctl, daemon: FakeDaemon, effect: str | None, text: str
) -> None:
    kernel = daemon.add("a")
    daemon.replies["POST", "/v1/kernels/a/interrupt"] = {**kernel, "interrupt": effect}
    assert ctl("interrupt", "a") == Outcome(0, f"{text}\n", "")


def test_failures_are_in_the_json_by_name(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.add("good")
    daemon.replies["POST", "/v1/kernels/bad/start"] = StartFailedError("it died", hint="look")
    shown = ctl("start", "good", "bad", "--json")
    assert shown.code == 1
    assert [one["name"] for one in shown.json()["kernels"]] == ["good"]
    assert shown.json()["errors"] == [
        {"name": "bad", "code": "start-failed", "message": "it died", "hint": "look", "output": ""}
    ]


def test_a_kernels_last_words_stand_between_the_sentence_and_the_hint(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    error = StartFailedError("it died", hint="look", output="one\n\033[31mtwo\n")
    daemon.replies["POST", "/v1/kernels/a/start"] = error
    told = ["kconnd-ctl: it died", "  | one", "  | two", "  look"]
    assert ctl("start", "a").err.splitlines() == told


def test_a_name_given_twice_is_asked_once(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.add("a")
    ctl("start", "a", "a")
    assert len(sent(daemon)) == 1


def test_a_pattern_means_the_kernels_that_fit(ctl: Ctl, daemon: FakeDaemon) -> None:
    for name in ("lab1", "lab2", "other"):
        daemon.add(name)
    assert ctl("interrupt", "lab?").code == 0
    assert {path for path, _ in sent(daemon)} == {
        "/v1/kernels/lab1/interrupt",
        "/v1/kernels/lab2/interrupt",
    }


def test_a_pattern_that_fits_nothing_is_no_such_kernel(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.add("a")
    shown = ctl("info", "x*")
    assert shown.code == 4
    assert "no kernel matches 'x*'" in shown.err


def test_a_kernel_spec_with_wildcards_in_its_name_means_its_own_kernel(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    daemon.add("lab1")
    daemon.add("lab-1-0a0a0a0a", jupyter_name="lab[1]")
    assert ctl("interrupt", "Lab[1]").code == 0
    daemon.replies["GET", "/v1/kernels/new%2A"] = daemon.add("new-0b0b0b0b", jupyter_name="new*")
    del daemon.kernels["new-0b0b0b0b"]
    daemon.replies["POST", "/v1/kernels/new-0b0b0b0b/start"] = daemon.kernels["lab1"]
    assert ctl("start", "new*").code == 0
    assert [path.split("/")[3] for path, _ in sent(daemon)] == ["lab-1-0a0a0a0a", "new-0b0b0b0b"]


def test_a_start_by_jupyters_name_shows_both_names(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.replies["POST", "/v1/kernels/c%2B%2B/start"] = daemon.add("c-1", jupyter_name="c++")
    assert ctl("start", "c++").out.startswith("c-1 (derived from 'c++') is ready: ")


ENDING = [["stop", "exp*"], ["stop", "--all"], ["restart", "exp*"]]


@pytest.fixture(name="experiments")
def _experiments(daemon: FakeDaemon) -> FakeDaemon:
    daemon.add("exp1", execution_state="busy")
    daemon.add("exp2", **STOPPED)
    return daemon


@pytest.mark.parametrize("arguments", ENDING, ids=" ".join)
def test_without_a_terminal_nothing_is_ended_that_was_not_named(
    arguments: list[str], ctl: Ctl, experiments: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("/dev/null").open(encoding="ascii") as no_terminal:
        monkeypatch.setattr("sys.stdin", no_terminal)
        shown = ctl(*arguments)
    assert shown.code == 2
    assert "exp1" in shown.err
    assert "exp2" not in shown.err
    assert shown.err.endswith("\n  add --yes to stop them without confirmation\n")
    assert sent(experiments) == []


@pytest.mark.parametrize("arguments", ENDING, ids=" ".join)
def test_yes_ends_what_is_up_and_leaves_the_rest(
    arguments: list[str], ctl: Ctl, experiments: FakeDaemon
) -> None:
    assert ctl(*arguments, "--yes").code == 0
    assert [path for path, _ in sent(experiments)] == [f"/v1/kernels/exp1/{arguments[0]}"]


@pytest.mark.parametrize(("typed", "code", "posts"), [("y\n", 0, 1), ("n\n", 5, 0), ("\n", 5, 0)])
def test_on_a_terminal_it_shows_what_ends_and_asks(
    typed: str, code: int, posts: int, experiments: FakeDaemon
) -> None:
    found, shown = on_a_terminal(
        "stop", "exp*", "--socket", str(experiments.path), typed=typed, NO_COLOR="1"
    )
    assert "These kernels stop, and everything in their memory is lost:\n" in shown
    assert "  exp1  running  48M  busy\n" in shown
    assert "exp2" not in shown
    assert (found, len(sent(experiments))) == (code, posts)


def test_nothing_to_stop_is_done(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.add("a", **STOPPED)
    shown = ctl("stop", "--all", "--json")
    assert (shown.code, shown.json()) == (0, {"kernels": [], "errors": []})
    assert shown.err == "nothing to stop\n"


@pytest.mark.parametrize("faults", [0, 1])
def test_reload_tells_the_difference(faults: int, ctl: Ctl, daemon: FakeDaemon) -> None:
    place: dict[str, Any] = {"file": "/c/lab.yaml", "line": 7, "column": 12}
    fault = place | {"path": "restart.policy", "message": "no such policy", "hint": "use always"}
    names: dict[str, Any] = {"added": ["new"], "changed": [], "removed": ["old"]}
    daemon.replies["POST", "/v1/reload"] = names | {"unchanged": 3, "faults": [fault] * faults}
    shown = ctl("reload")
    assert shown.code == faults
    lines = ["added: new", "removed: old", "unchanged: 3"]
    lines += ["/c/lab.yaml:7:12: restart.policy: no such policy; use always"] * faults
    assert shown.out.splitlines() == lines
