"""What look-ups show of kernels, and what they ask for."""

import json
from typing import Any

import pytest

from kconnd.core.names import derived_name
from kconnd.errors import NoSuchKernelError, TimedOutError
from tests.cli.conftest import Ctl, on_a_terminal
from tests.cli.fake_daemon import STOPPED, FakeDaemon, Raw, Request, Stream, chunk

CPP = derived_name("c++ 17")
FAILED = STOPPED | {
    "state": "failed",
    "reason": "it exited with code 3",
    "last_exit": {
        "code": 3,
        "signal": None,
        "reason": "exited with code 3",
        "at": "2026-11-23T09:50:00.000Z",
        "output_tail": "one\ntwo\n\033[31mModuleNotFoundError\033[0m: no module named torch\n",
    },
}


def test_list_shows_a_line_for_each_kernel(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.add("a", memory=1 << 30, restarts=2)
    daemon.add("busy", execution_state="busy", profile_status="changed: restart to apply")
    daemon.add("broken", **FAILED)
    head, *lines = [line.split() for line in ctl("list").out.splitlines()]
    assert head == ["NAME", "STATE", "PID", "MEMORY", "IDLE", "UP", "RESTARTS", "NOTE"]
    assert lines[0][:4] == ["a", "running", "4711", "1G"]
    assert lines[0][-1] == "2"
    assert lines[1][4] == "busy"
    assert lines[1][-4:] == ["changed:", "restart", "to", "apply"]
    assert " ".join(lines[2]) == "broken failed - - - - 0 it exited with code 3"


def test_a_profile_that_was_removed_is_called_that(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.add("a", profile_status="orphaned")
    assert ctl("list").out.rstrip().endswith("  profile removed")
    shown = dict(line.strip().split("  ", 1) for line in ctl("info", "a").out.splitlines())
    assert shown["profile"].startswith("removed; a restart uses the profile that")


def test_an_empty_list_says_what_to_do_next(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert daemon.kernels == {}
    shown = ctl("list")
    assert shown.code == 0
    assert "kconnd-ctl start python3" in shown.out


def test_list_takes_names_and_patterns(ctl: Ctl, daemon: FakeDaemon) -> None:
    for name in ("lab1", "lab2", "x"):
        daemon.add(name)
    names = [one["name"] for one in ctl("list", "lab*", "--json").json()["kernels"]]
    assert names == ["lab1", "lab2"]
    assert ctl("list", "y*").code == 4


def test_a_derived_name_is_shown_beside_jupyters(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.add(CPP, jupyter_name="c++ 17")
    daemon.add("lab", jupyter_name=None)
    daemon.add("x-1", **STOPPED, jupyter_name="\x1b[31m\n\u202e", profile_status="orphaned")
    lines = ctl("list").out.splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["NAME", CPP, "lab", "x-1"]
    assert lines[1].endswith("derived from 'c++ 17'")
    assert lines[3].endswith(r"profile removed; derived from '\x1b[31m\n\u202e'")
    for name in ("C++ 17", "c++ 17", CPP):
        assert [row["name"] for row in ctl("list", name, "--json").json()["kernels"]] == [CPP]
    assert ctl("list", "Lab", "--json").json()["kernels"] == []
    daemon.replies["GET", "/v1/kernels/C%2B%2B%2017"] = daemon.kernels[CPP]
    assert ctl("info", "C++ 17").out.split("\n")[0] == f"   kernel  {CPP}, derived from 'c++ 17'"


def test_colour_is_on_a_terminal_and_not_with_no_color(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.add("a")
    arguments = ("list", "--socket", str(daemon.path))
    assert "\033[32mrunning\033[0m" in on_a_terminal(*arguments, NO_COLOR="")[1]
    assert "\033" not in on_a_terminal(*arguments, NO_COLOR="1")[1]
    assert "\033" not in ctl("list").out


def test_info_shows_all_about_a_kernel(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.add("a", warnings=["the port is in the ephemeral range"], umask="077")
    shown = dict(line.strip().split("  ", 1) for line in ctl("info", "a").out.splitlines())
    assert shown["kernel"] == "a"
    assert shown["state"] == "running (it answered)"
    assert shown["process"] == "pid 4711, 48M in all its processes, umask 077"
    assert shown["runs"] == "python3 (python)"
    assert shown["transport"] == "ipc /run/x/k, closed to other users"
    assert shown["file"] == "/run/x/kernel-a.json"
    assert shown["log"] == "/var/x/a.log"
    assert shown["warning"] == "the port is in the ephemeral range"


def test_a_kernel_that_answers_no_cell_is_not_shown_as_idle(ctl: Ctl, daemon: FakeDaemon) -> None:
    text = "it reports idle, but has not answered on its shell channel for 40 s"
    daemon.add("a", execution_state="unknown", unanswered=text)
    shown = ctl("info", "a").out
    assert daemon.requests[-1].query == "check=1"
    assert f"answers  no: {text}\n" in shown
    assert "kconnd-ctl restart a" in shown
    assert "does not answer on its shell channel" in ctl("list").out


def test_the_limits_of_a_kernel_and_those_that_are_not_enforced(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    limits = {"memory": 150 << 20, "cpu": 1.5, "tasks": None}
    daemon.add("a", limits=limits, limits_unenforced="limits.tasks is not enforced: why")
    rows = [line.split(maxsplit=1) for line in ctl("info", "a").out.splitlines()]
    assert ["limits", "memory 150M, cpu 1.5"] in rows
    assert ["warning", "limits.tasks is not enforced: why"] in rows


def test_work_in_a_subshell_only_is_shown(ctl: Ctl, daemon: FakeDaemon) -> None:
    text = "it runs a cell in a subshell only; ipykernel can interrupt the main shell only"
    daemon.add("a", execution_state="busy", in_subshells=text)
    assert f"interrupt  {text}" in ctl("info", "a").out
    assert "works in a subshell only" in ctl("list").out


def test_info_says_what_keeps_a_kernel_from_being_stopped_as_idle(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    daemon.add("a", kept_alive="its processes used 12.0% of a core\x1b[2J over the last 60 s")
    shown = ctl("info", "a").out
    assert "kept alive" in shown
    assert "idle.stop_after has passed; its processes used 12.0% of a core" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("transport", "encrypted", "said"),
    [
        ("tcp", False, "NOT encrypted"),
        ("tcp", True, "encrypted with CURVE"),
        ("ipc", False, "closed to other users"),
    ],
)
def test_info_says_whether_others_can_listen(
    transport: str, said: str, ctl: Ctl, daemon: FakeDaemon, *, encrypted: bool
) -> None:
    wire = daemon.add("a")["connection"]
    wire.update(transport=transport, encrypted=encrypted)
    assert f"{transport} /run/x/k, {said}\n" in ctl("info", "a").out


def test_info_of_a_failed_kernel_shows_its_last_words_and_no_control_codes(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    daemon.add("a", **FAILED)
    shown = ctl("info", "a").out
    assert "failed (it exited with code 3)" in shown
    assert "| two\n" in shown
    assert "| ModuleNotFoundError: no module named torch\n" in shown


def test_info_is_an_object_for_one_name_and_a_list_for_more(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.add("a")
    daemon.add("b")
    assert ctl("info", "a", "--json").json() == daemon.kernels["a"]
    assert ctl("info", "a*", "--json").json() == [daemon.kernels["a"]]
    both = ctl("info", "b", "a", "nosuch", "--json")
    assert both.json() == [daemon.kernels["b"], daemon.kernels["a"]]
    assert both.code == 4


def test_a_letter_that_cannot_be_printed_fails_nothing(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.add("a", log_file="/var/\ud800")
    assert ctl("info", "a").code == 0


def test_why_tells_the_decisions(ctl: Ctl, daemon: FakeDaemon) -> None:
    decisions = [{"at": "2026-11-23T09:50:00.000Z", "what": "start", "reason": "it was asked for"}]
    daemon.replies["GET", "/v1/kernels/a/why"] = {"name": "a", "decisions": decisions}
    daemon.replies["GET", "/v1/kernels/b/why"] = {"name": "b", "decisions": []}
    head, line = ctl("why", "a").out.splitlines()
    assert head.split() == ["WHEN", "WHAT", "WHY"]
    assert line.endswith("ago  start  it was asked for")
    assert ctl("why", "b").out == "nothing has been decided about it yet\n"
    assert ctl("why", "a", "b").out.startswith("a:\n")
    assert [one["name"] for one in ctl("why", "a", "b", "--json").json()] == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        ([], "for=ready&timeout=1000000000.0"),
        (["--for", "stopped", "--timeout", "1min 30s"], "for=stopped&timeout=90.0"),
    ],
)
def test_wait_asks_the_daemon_to_wait(
    arguments: list[str], query: str, ctl: Ctl, daemon: FakeDaemon
) -> None:
    daemon.replies["GET", "/v1/kernels/a/wait"] = {"name": "a", "state": "running"}
    shown = ctl("wait", "a", *arguments)
    assert (shown.code, shown.out) == (0, "a is running\n")
    assert daemon.requests[-1].query == query


def test_wait_that_is_over_fails(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.replies["GET", "/v1/kernels/a/wait"] = TimedOutError("it is still starting")
    assert ctl("wait", "a", "--timeout", "1s").code == 1


# --- what comes bit by bit


def texts(*pieces: str) -> Stream:
    return Stream(tuple({"text": piece} for piece in pieces))


def test_logs_of_one_kernel_keep_their_colours(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.replies["GET", "/v1/kernels/a/logs"] = texts("one\ntw", "o\n\033[1mbold", "")
    shown = ctl("logs", "a", "-n", "7")
    assert shown.out == "one\ntwo\n\033[1mbold\033[0m"  # which end with the text
    assert daemon.requests[-1].query == "lines=7&follow=0"


STEPS = ("a\033[3", "1mred\033", "]0;root\007b\033[2J\rc")


@pytest.mark.parametrize("more", [[], ["-f"]], ids=["now", "following"])
def test_no_log_steers_the_terminal_unless_asked(
    more: list[str], ctl: Ctl, daemon: FakeDaemon
) -> None:
    daemon.replies["GET", "/v1/kernels/a/logs"] = texts(*STEPS)
    daemon.replies["GET", "/v1/kernels/b/logs"] = texts("x")
    assert ctl("logs", "a", *more).out == "a\033[31mredb\rc\033[0m"
    assert ctl("logs", "a", "--raw", *more).out == "".join(STEPS)
    several = ctl("logs", "a", "b", *more).out.split("\n")
    assert {"a: a\033[31mredb\033[0m", "a: c\033[0m"} <= set(several)
    raw = ctl("logs", "a", "b", "--raw", *more).out.split("\n")
    assert f"a: {''.join(STEPS)}\033[0m" in raw


@pytest.mark.parametrize("more", [[], ["-f"]], ids=["now", "following"])
def test_logs_of_several_never_mix_within_a_line(
    more: list[str], ctl: Ctl, daemon: FakeDaemon
) -> None:
    daemon.replies["GET", "/v1/kernels/a/logs"] = texts("on", "e\n\ntwo\nthr", "ee")
    daemon.replies["GET", "/v1/kernels/b/logs"] = texts("1", "2\n3", "4\n")
    lines = ctl("logs", "a", "b", *more).out.splitlines()
    assert [line for line in lines if line[0] == "a"] == ["a: one", "a: ", "a: two", "a: three"]
    assert [line for line in lines if line[0] == "b"] == ["b: 12", "b: 34"]
    assert len(lines) == 6


@pytest.mark.parametrize("more", [[], ["-f"]], ids=["now", "following"])
def test_logs_of_those_that_there_are_come_though_one_is_missing(
    more: list[str], ctl: Ctl, daemon: FakeDaemon
) -> None:
    daemon.replies["GET", "/v1/kernels/a/logs"] = texts("here\n")
    shown = ctl("logs", "nosuch", "a", *more)
    assert shown.code == 4
    assert shown.out == "a: here\n"
    assert "no kernel nosuch" in shown.err


def test_streams_are_json_lines(ctl: Ctl, daemon: FakeDaemon) -> None:
    event = {"at": "2026-11-23T09:50:00.000Z", "kernel": "a", "event": "ready", "message": "up"}
    daemon.replies["GET", "/v1/events"] = Stream((event, event))
    daemon.replies["GET", "/v1/kernels/a/logs"] = texts("one\n", "two\n")
    assert list(map(json.loads, ctl("events", "--json").out.splitlines())) == [event, event]
    assert list(map(json.loads, ctl("logs", "a", "--json").out.splitlines())) == [
        {"name": "a", "text": "one\n"},
        {"name": "a", "text": "two\n"},
    ]


def test_events_of_one_kernel_as_they_come(ctl: Ctl, daemon: FakeDaemon) -> None:
    event = {"at": "T", "kernel": "a", "event": "ready", "message": "it answered"}
    daemon.replies["GET", "/v1/events"] = Stream((event,))
    assert ctl("events", "-f", "a").out == "T  a  it answered\n"
    assert daemon.requests[-1].query == "follow=1&kernel=a"


def test_a_stream_that_breaks_off_says_so_after_what_came(ctl: Ctl, daemon: FakeDaemon) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    daemon.replies["GET", "/v1/kernels/a/logs"] = Raw((head, chunk(b'{"text": "last\\n"}\n')))
    shown = ctl("logs", "-f", "a")
    assert (shown.code, shown.out) == (6, "last\n")
    assert "hung up" in shown.err


def test_profiles_and_health(ctl: Ctl, daemon: FakeDaemon) -> None:
    place: dict[str, Any] = {"file": "/c/lab.yaml", "line": 7}
    fault = place | {"column": 3, "path": "", "message": "not YAML", "hint": ""}
    profile = place | {"name": "lab", "start": "demand", "status": "current"}
    daemon.replies["GET", "/v1/profiles"] = {"profiles": [profile], "faults": [fault]}
    shown = ctl("profiles").out.splitlines()
    assert shown[1].split() == ["lab", "demand", "current", "/c/lab.yaml:7"]
    assert shown[2] == "/c/lab.yaml:7:3: not YAML"
    daemon.replies["GET", "/v1/health"] = {"version": "1", "configs": ["/a", "/b"]}
    assert ctl("health").out == "version  1\nconfigs  /a\n         /b\n"


def test_a_name_is_asked_for_as_it_is(ctl: Ctl, daemon: FakeDaemon) -> None:
    seen: list[Request] = daemon.requests
    daemon.add("lab@exp1")
    assert ctl("info", "lab@exp1").code == 0
    assert seen[-1].path == "/v1/kernels/lab@exp1"
    assert ctl("info", "a b").code == 4
    assert seen[-1].path == "/v1/kernels/a%20b"
    assert ctl("info", "lab@exp1/connection").code == 4  # not another thing than was asked for
    assert seen[-1].path == "/v1/kernels/lab@exp1%2Fconnection"


STEERING = "\x1b[2J\x1b]0;root\x07\x9b31m"


@pytest.mark.parametrize(
    "words",
    [
        "list",
        "info a",
        "why a",
        "wait a",
        "profiles",
        "health",
        "events",
        "stop a",
        "reload",
        "info x",
    ],
)
def test_nothing_that_a_daemon_says_steers_the_terminal(
    ctl: Ctl, daemon: FakeDaemon, words: str
) -> None:
    said = {"reason": STEERING, "profile_status": STEERING, "log_file": STEERING}
    daemon.add("a", **said, execution_state=STEERING, warnings=[STEERING], launcher=STEERING)
    kernel = daemon.kernels["a"]
    kernel |= {"name": f"a{STEERING}", "state": STEERING, "kernel_name": STEERING}
    fault = {"file": STEERING, "line": 1, "column": 1, "path": STEERING}
    fault |= {"message": STEERING, "hint": STEERING}
    one = {"name": STEERING, "start": STEERING, "status": STEERING, "file": STEERING, "line": 1}
    decision = {"at": None, "what": STEERING, "reason": STEERING}
    event = {"at": STEERING, "kernel": STEERING, "event": "x", "message": STEERING}
    daemon.replies |= {
        ("GET", "/v1/kernels/a/why"): {"name": STEERING, "decisions": [decision]},
        ("GET", "/v1/kernels/a/wait"): kernel,
        ("GET", "/v1/profiles"): {"profiles": [one], "faults": [fault]},
        ("GET", "/v1/health"): {STEERING: STEERING, "configs": [STEERING]},
        ("GET", "/v1/events"): Stream((event,)),
        ("POST", "/v1/kernels/a/stop"): kernel,
        ("POST", "/v1/reload"): {"added": [STEERING], "changed": [], "removed": []}
        | {"unchanged": 0, "faults": [fault]},
        ("GET", "/v1/kernels/x"): NoSuchKernelError(STEERING, hint=STEERING),
    }
    shown = ctl(*words.split())
    assert "?[2J" in shown.out + shown.err
    assert not {*"\x1b\x07\x9b"} & {*shown.out, *shown.err}


def test_times_that_are_none_are_no_fault(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.add("a", started_at="x", last_activity="2026-11-23T99")
    assert ctl("list").out.splitlines()[1].split()[4:6] == ["-", "-"]


def test_a_stop_that_is_under_way_shows_what_it_waits_for(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.add("a", state="stopping", reason="stop was requested", waits_for="its exited child")
    assert "waits for  its exited child" in ctl("info", "a").out
    assert ctl("list").out.splitlines()[1].endswith("  waits for its exited child")


def test_faulty_profiles_are_told_on_stderr(ctl: Ctl, daemon: FakeDaemon) -> None:
    kernels = [daemon.add("lab")]
    for count, line in ((1, "1 profile has faults"), (2, "2 profiles have faults")):
        daemon.replies["GET", "/v1/kernels"] = {
            "kernels": kernels,
            "elsewhere": [],
            "faulty_profiles": count,
        }
        shown = ctl("list")
        assert shown.err == f"kconnd-ctl: {line}: kconnd-ctl check shows them\n"
        assert len(shown.out.splitlines()) == 2
        assert shown.code == 0
        assert ctl("list", "lab").err == ""
    del daemon.replies["GET", "/v1/kernels"]
    assert ctl("list").err == "", "an earlier daemon does not count them"


def test_a_startable_kernel_spec_is_listed_and_selected_by_both_names(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    spec = {"name": CPP, "jupyter_name": "c++ 17", "kernel_spec": "c++ 17", "error": ""}
    other = {"name": "ir", "jupyter_name": None, "kernel_spec": "ir", "error": ""}
    rows = [spec | {"argv": ["xcpp"]}, other | {"argv": ["R"]}]
    daemon.replies["GET", "/v1/kernels"] = {"kernels": [], "elsewhere": [], "startable": rows}
    for name in ("C++ 17", CPP, "c-*"):
        _, line = ctl("list", "--all", name).out.splitlines()
        assert line.endswith("kernel spec (derived from 'c++ 17'): xcpp")
    assert ctl("list", "--all", "IR").code == 4


def test_kernel_specs_that_could_be_started_are_listed_on_request(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    spec = {"name": "ir", "kernel_spec": "ir", "display_name": "R"}
    daemon.replies["GET", "/v1/kernels"] = {
        "kernels": [daemon.add("lab")],
        "elsewhere": [],
        "startable": [
            spec | {"argv": ["/usr/bin/R", "--args", "{connection_file}"], "error": ""},
            spec | {"name": "bad", "argv": [], "error": "it is broken"},
        ],
    }
    _, lab, startable, bad = ctl("list", "--all").out.splitlines()
    assert lab.split()[:2] == ["lab", "running"]
    assert startable.split()[:2] == ["ir", "startable"]
    assert startable.endswith("kernel spec: /usr/bin/R --args '{connection_file}'")
    assert bad.endswith("kernel spec: it is broken")
    assert daemon.requests[-1].query == "startable=1"
    assert len(ctl("list", "--all", "i*").out.splitlines()) == 2
    assert ctl("list", "--all", "x*").code == 4
    assert ctl("list", "--all", "--all-users").code == 2
    del daemon.replies["GET", "/v1/kernels"]
    assert "earlier version" in ctl("list", "--all").err
