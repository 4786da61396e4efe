"""What is taken of a reply of another owner's daemon, whatever it sends."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.kernel.lifecycle import Desired, State
from kconnd.core.kernel.record import KernelRecord
from kconnd.core.kernel.view import LiveStatus, describe, iso_time
from kconnd.core.launch.connection import ConnectionInfo, CurveKeys
from kconnd.core.names import derived_name, parse_name
from kconnd.core.profile import difference
from kconnd.core.untrusted_reply import (
    ACTIVITIES,
    KERNEL_FIELDS,
    MAX_LINE_CHARS,
    MAX_OUTPUT_CHARS,
    MAX_PATH_CHARS,
    MAX_ROWS,
    PROFILE_STATES,
    READERS,
    STATES,
    name,
    time,
    validate_error,
    validate_reply,
)
from kconnd.errors import KconndError, NoSuchKernelError, UnreachableError, UsageError

EVE = (1001, "eve")
ROW: dict[str, Any] = describe(KernelRecord("lab"), LiveStatus("ada", "current", "", "/log"))
PORTS = {
    f"{one}_port": 5000 + n for n, one in enumerate(("shell", "iopub", "stdin", "control", "hb"))
}
UP = ROW | {
    "state": "running",
    "pid": 4711,
    "generation": 3,
    "started_at": "2026-11-23T09:50:00.000Z",
    "ready_after": 0.5,
    "memory": 1 << 30,
    "clients": 2,
    "connection_file": "/run/x.json",
    "connection": ConnectionInfo("tcp", "127.0.0.1", tuple(PORTS.values()), "k").describe(),
    "execution_state": "busy",
    "last_activity": "2026-11-23T09:50:00Z",
    "launcher": "systemd",
    "language": "python",
    "last_exit": {
        "code": -1,
        "signal": 9,
        "reason": "gone",
        "at": None,
        "output_tail": "a\x1b[1mb\n",
        "requested": True,
    },
    "warnings": ["careful"],
    "consoles": [
        {
            "kernel": "lab",
            "pid": 7,
            "started_at": None,
            "code": None,
            "reason": "open",
            "output_tail": "x",
        }
    ],
}
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
PATHS = {verb: f"/v1/kernels/lab/{verb}".rstrip("/") for verb in READERS}


def taken(content: object, verb: str = "") -> dict[str, Any]:
    return validate_reply(PATHS[verb], content, *EVE)


@pytest.mark.parametrize("kernel", [ROW, UP])
def test_what_a_daemon_really_says_is_taken_whole(kernel: dict[str, Any]) -> None:
    ours = {"owner": "eve", "uid": 1001, "consoles": kernel.get("consoles")}
    assert taken(json.loads(json.dumps(kernel))) == {**kernel, **ours}
    (row,) = validate_reply("/v1/kernels", {"kernels": [kernel]}, *EVE)["kernels"]
    assert row == {**kernel, **ours}


@pytest.mark.parametrize(
    ("users", "pids"),
    [({}, (4711, 7)), ({4711: 1001, 7: 1001}, (4711, 7)), ({4711: 0, 7: 1002}, (None, None))],
)
def test_no_pid_of_somebody_elses_process_is_shown(
    users: dict[int, int], pids: tuple[int | None, ...]
) -> None:
    found = validate_reply("/v1/kernels/lab", json.loads(json.dumps(UP)), *EVE, users.get)
    assert (found["pid"], found["consoles"][0]["pid"]) == pids


def test_each_field_that_is_shown_of_a_kernel_has_a_reader() -> None:
    """A new field of `kconnd.core.kernel.view` needs one here, as an optional one."""
    assert set(KERNEL_FIELDS) == {*ROW, "consoles"}


def test_the_words_are_those_that_a_daemon_has() -> None:
    assert set(STATES) == set(State)
    assert set(Desired) == {"up", "down"}
    assert set(PROFILE_STATES) == {difference.CURRENT, difference.CHANGED, difference.ORPHANED}
    assert "unknown" in ACTIVITIES


def test_a_connection_is_taken_as_it_stands_in_a_file() -> None:
    for curve in (None, CurveKeys("a" * 40, "b" * 40)):
        content = ConnectionInfo(
            "tcp", "::1", tuple(PORTS.values()), "k", "python3", curve
        ).to_file()
        assert taken(content, "connection") == content
        assert taken({**content, "exec": "x"}, "connection") == content


@given(st.sampled_from(sorted(KERNEL_FIELDS)), JUNK)
def test_a_field_is_of_its_type_and_bounded_or_the_reply_is_refused(key: str, value: Any) -> None:
    outcome = outcome_of({**UP, key: value})
    if isinstance(outcome, UnreachableError):
        assert key in outcome.message or key == "name"
        assert outcome.message.isprintable()
        assert len(outcome.message) < 200
    else:
        check_kernel(outcome)


def outcome_of(content: object) -> dict[str, Any] | UnreachableError:
    try:
        return taken(content)
    except UnreachableError as error:
        return error


def check_kernel(found: dict[str, Any]) -> None:
    assert set(found) == {*KERNEL_FIELDS, "uid"}
    assert (found["owner"], found["uid"], found["name"]) == ("eve", 1001, "lab")
    tails = [(found["last_exit"] or {}).pop("output_tail", "")]
    tails += [one.pop("output_tail") for one in found["consoles"] or ()]
    for text in tails:
        assert len(text.encode()) <= MAX_OUTPUT_CHARS * 4
    for text in texts_of(found):
        assert text.isprintable()
        assert len(text) <= MAX_PATH_CHARS
    assert all(math.isfinite(number) for number in numbers_of(found))


def texts_of(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inner for text in texts_of(one)]


def numbers_of(value: Any) -> list[float]:
    if isinstance(value, int | float):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [number for one in inner for number in numbers_of(one)]


@given(st.sampled_from(sorted(PATHS)), JUNK)
def test_junk_is_refused(verb: str, content: Any) -> None:
    with pytest.raises(UnreachableError, match="the daemon of eve sent an invalid reply"):
        taken(content, verb)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("name", one) for one in ("../../etc", "lab\n", "other", "", "a" * 41, 7, "lab@", "@")),
        *(("state", one) for one in ("run\x1b[31m", "Running", None, 1)),
        *(("pid", one) for one in (True, -1, 1.5, "1", 10**400)),
        *(("ready_after", one) for one in (math.nan, math.inf, -1, True, 10**400)),
        *(("started_at", one) for one in ("x", "2026-11-23", "٢٠٢٦-11-23T09:50:00Z", 7)),
        *(("connection", one) for one in ("x", {}, {**UP["connection"], "transport": "udp"})),
        *(("heartbeat", one) for one in (None, {}, {"state": "x\n"}, {"state": "x" * 99})),
        *(("launcher", one) for one in ("a\nb", "x" * 41, "ä", "-")),
        *(("warnings", one) for one in (None, "x", [7])),
        ("execution_state", "starting"),
        ("reason", None),
    ],
)
def test_what_makes_no_sense_is_refused(key: str, value: object) -> None:
    with pytest.raises(UnreachableError, match="sent an invalid reply"):
        taken({**UP, key: value})


def test_texts_and_lists_are_cut() -> None:
    found = taken({**UP, "reason": "r" * 5000, "warnings": ["w"] * 5000, "log_file": "/" * 9999})
    assert len(found["reason"]) == MAX_LINE_CHARS
    assert len(found["warnings"]) == MAX_ROWS
    assert len(found["log_file"]) == MAX_PATH_CHARS
    tail = {**UP["last_exit"], "output_tail": "x" * MAX_OUTPUT_CHARS + "end\ud800"}
    kept = taken({**UP, "last_exit": tail})["last_exit"]["output_tail"]
    assert (len(kept), kept[-4:]) == (MAX_OUTPUT_CHARS, "end?")


@pytest.mark.parametrize(
    "path",
    ["/v1/profiles", "/v1/reload", "/v1/kernels/lab/qtconsole", "/start", "/v1/owners/x/open"],
)
def test_no_other_request_is_answered_by_a_stranger(path: str) -> None:
    with pytest.raises(UnreachableError, match="only the user's own daemon answers"):
        validate_reply(path, UP, *EVE)


def test_what_is_asked_of_a_socket_is_typed_too() -> None:
    event = {"at": None, "kernel": "lab", "event": "started", "message": "pid\x1b"}
    found = validate_reply("/v1/events?follow=1", {**event, "more": 1}, *EVE)
    assert found == {**event, "message": "pid?"}
    counts = dict.fromkeys(("kernels", "running", "warm", "faults"), 0)
    health = {"version": "1", "pid": 7, "uid": 0, **counts, "socket": "/x", "configs": ["/y"]}
    assert health.items() <= validate_reply("/v1/health", health, *EVE).items()
    for path, content in (("/v1/events", {**event, "kernel": "/"}), ("/v1/health", {"pid": 1})):
        with pytest.raises(UnreachableError):
            validate_reply(path, content, *EVE)


def test_a_query_and_a_quoted_name_change_nothing() -> None:
    found = validate_reply("/v1/kernels/l%61b/wait?for=ready", UP, *EVE)
    assert found["name"] == "lab"


@given(st.text(st.characters(), max_size=60) | st.from_regex(r"[\w.@-]{0,50}"))
def test_a_name_is_what_a_name_is_everywhere(text: str) -> None:
    try:
        parse_name(text)
    except UsageError:
        with pytest.raises(ValueError, match="kernel name"):
            name(text)
    else:
        assert name(text) == text


@given(st.floats(0, 4e9))
def test_each_time_that_a_daemon_writes_is_one(at: float) -> None:
    assert time(iso_time(at)) == iso_time(at)


# --- errors


def test_an_error_is_told_as_words_of_its_owner() -> None:
    told = {
        "code": "no-such-kernel",
        "message": "none\x1b[2J",
        "hint": "a\nb",
        "output": "o\x1b[1m",
    }
    error = validate_error({**told, "owner": "root"}, "eve")
    assert type(error) is NoSuchKernelError
    assert error.message == "the daemon of eve says: none?[2J"
    assert error.hint == "the daemon of eve says: a?b"
    assert error.output == "o\x1b[1m"


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        ("kconnd-ctl start lab starts it", "kconnd-ctl start ada/lab starts it"),
        ("it ran; (kconnd-ctl why lab)", "it ran; (kconnd-ctl why ada/lab)"),
        ("lab: kconnd-ctl start labs, lab", "lab: kconnd-ctl start labs, lab"),
        ("kconnd-ctl list shows lab", "kconnd-ctl list shows lab"),
    ],
)
def test_the_commands_of_a_hint_name_the_owner(hint: str, shown: str) -> None:
    fields = {"code": "not-running", "message": "m", "hint": hint, "output": ""}
    error = validate_error(fields, "ada", "/v1/kernels/lab/logs?lines=3")
    assert error.hint == f"the daemon of ada says: {shown}"


def test_the_commands_of_a_hint_can_be_run_for_any_owner() -> None:
    fields = {"code": "x", "message": "m", "hint": "see kconnd-ctl why lab.", "output": ""}
    error = validate_error(fields, r"EXAMPLE\jane doe", "/v1/kernels/lab")
    assert error.hint.endswith(r"see kconnd-ctl why 'EXAMPLE\jane doe/lab'.")


@given(JUNK | st.fixed_dictionaries(dict.fromkeys(("code", "message", "hint", "output"), JUNK)))
def test_no_error_is_more_than_text(told: Any) -> None:
    error = validate_error(told, "eve")
    assert isinstance(error, KconndError)
    assert "the daemon of eve" in error.message
    assert error.message.isprintable()
    assert error.hint.isprintable()
    assert not getattr(error, "owner", "")
    assert len(error.message) + len(error.hint) < 2 * (MAX_LINE_CHARS + 100)


def test_jupyters_name_of_a_kernel_spec_leads_to_a_reply_with_the_derived_name() -> None:
    path = "/v1/kernels/C%2B%2B%2017"
    row = ROW | {"name": derived_name("c++ 17"), "jupyter_name": "c++\x1b 17"}
    reply = validate_reply(path, row, *EVE)
    assert (reply["name"], reply["jupyter_name"]) == (row["name"], "c++? 17")
    for kernel in ("lab", derived_name("c++ 18")):
        with pytest.raises(UnreachableError, match="it is about another kernel"):
            validate_reply(path, row | {"name": kernel}, *EVE)
