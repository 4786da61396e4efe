"""The front door drops invalid rows of a list that a lying daemon sends."""

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.cli.kernel_list import list_lines
from kconnd.core.kernel.record import KernelRecord
from kconnd.core.kernel.view import LiveStatus, describe
from kconnd.front.owner_kernels import FIELDS, sound_kernels

ROW: dict[str, Any] = describe(KernelRecord("lab"), LiveStatus("ada", "current", "", "/log"))
UP = ROW | {
    "state": "running",
    "pid": 4711,
    "memory": 1 << 30,
    "clients": 2,
    "execution_state": "busy",
    "started_at": "2026-11-23T09:50:00.000Z",
    "last_activity": "2026-11-23T09:50:00Z",
    "launcher": "systemd",
    "language": "python",
}


def told(*rows: Any) -> list[dict[str, Any]]:
    return sound_kernels({"kernels": list(rows)}, 1000, "ada", {4711: 1000, 1: 0}.get) or []


@pytest.mark.parametrize("kernel", [ROW, UP])
def test_what_a_daemon_really_says_is_believed(kernel: dict[str, Any]) -> None:
    (row,) = told(kernel)
    assert {key: row[key] for key in FIELDS} == {key: kernel[key] for key in FIELDS}


def test_whose_a_kernel_is_is_not_asked() -> None:
    (row,) = told({**ROW, "owner": "root", "uid": 0})
    assert (row["owner"], row["uid"]) == ("ada", 1000)


@pytest.mark.parametrize("pid", [1, 4712])
def test_a_process_of_somebody_else_or_of_nobody_is_not_believed(pid: int) -> None:
    (row,) = told({**UP, "pid": pid})
    assert (row["name"], row["pid"]) == ("lab", None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "../../etc"),
        ("name", "lab\n"),
        ("state", "run\x1b[31m"),
        ("execution_state", "\x1b]0;title\x07"),
        ("execution_state", "starting"),
        ("started_at", "x"),
        ("started_at", "2026-11-23T09:50:00Z\n"),
        ("started_at", "٢٠٢٦-11-23T09:50:00Z"),
        ("last_activity", "2026-11-23"),
        ("next_attempt_at", 7),
        ("memory", math.nan),
        ("memory", math.inf),
        ("memory", -1),
        ("clients", True),
        ("pid", 1.5),
        ("restarts", 10**400),
        ("launcher", "my\nown"),
        ("profile_status", "fine"),
        ("reason", 7),
    ],
)
def test_what_makes_no_sense_takes_its_kernel_with_it(key: str, value: object) -> None:
    assert [row["name"] for row in told({**UP, key: value}, ROW)] == ["lab"]
    assert told({**UP, key: value}) == []


def test_words_of_a_kernel_are_cut_and_steer_no_terminal() -> None:
    (row,) = told({**UP, "reason": "x" * 2000})
    assert row["reason"] == "x" * 1000
    (row,) = told({**UP, "reason": "gone\x1b[2J\nroot# ", "language": "py\x9b31m"})
    assert (row["reason"], row["language"]) == ("gone?[2J?root# ", "py?31m")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
ROWS = st.dictionaries(st.sampled_from([*FIELDS, "heartbeat", "owner"]), JUNK)


@given(JUNK | st.fixed_dictionaries({"kernels": JUNK | st.lists(ROWS.map(lambda r: {**UP, **r}))}))
def test_lies_are_left_out_or_harmless(reply: Any) -> None:
    found = sound_kernels(reply, 1000, "ada", lambda _pid: 1000)
    for row in found or []:
        assert (row["owner"], row["uid"]) == ("ada", 1000)
        assert set(row) == {*FIELDS, "heartbeat", "owner", "uid"}
        texts = [value for value in row.values() if isinstance(value, str)]
        assert all(text.isprintable() for text in texts)
    if found:  # and an administrator's list of them is a line for each
        lines = list_lines(found)
        assert len(lines) == len(found) + 1
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", "".join(lines))


def test_a_million_kernels_are_too_many() -> None:
    assert len(told(*[ROW] * 5000)) == 1000
