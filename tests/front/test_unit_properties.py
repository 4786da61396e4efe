"""Requests that the front door accepts for units, and the properties that it builds."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.profile.model import Limits
from kconnd.errors import KconndError, UsageError
from kconnd.front.unit_properties import (
    parse_request,
    properties,
    scope_properties,
    stricter,
)
from kconnd.programs import shim
from kconnd.system.systemd.systemd_version import parse_version

SOUND: dict[str, Any] = {
    "name": "lab@one",
    "generation": 3,
    "program": "/run/kconnd/u/1000/live/shim.pyc",
    "plan": "/run/kconnd/u/1000/live/lab@one.plan",
    "limits": {"memory": 1 << 30, "cpu": 1.5},
}


def test_a_sound_request() -> None:
    found = parse_request(SOUND)
    assert found[:2] == ("lab@one", 3)
    assert found[4] == {"memory": float(1 << 30), "cpu": 1.5}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "../../etc"),
        ("name", "a b"),
        ("name", ""),
        ("name", 7),
        ("name", "x" * 200),
        ("generation", 0),
        ("generation", -1),
        ("generation", True),
        ("generation", "1"),
        ("generation", 1 << 70),
        ("program", "shim.pyc"),
        ("program", "/bin/sh\n--more"),
        ("program", "/" + "x" * 2000),
        ("program", None),
        ("plan", ["/x"]),
        ("limits", {"memory": -1}),
        ("limits", {"memory": float("nan")}),
        ("limits", {"memory": True}),
        ("limits", {"User": "root"}),
        ("limits", [1]),
    ],
)
def test_what_makes_no_sense_is_refused(key: str, value: object) -> None:
    with pytest.raises(UsageError):
        parse_request({**SOUND, key: value})


JUNK = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())


@given(st.dictionaries(st.sampled_from([*SOUND, "User"]), JUNK | st.dictionaries(st.text(), JUNK)))
def test_junk_is_refused_and_nothing_else(body: dict[str, Any]) -> None:
    with pytest.raises(KconndError):
        parse_request(body)


NEW = 252  # a systemd that knows all that we ask of it for a unit


def test_whose_it_is_is_not_asked() -> None:
    rows = properties(1000, ["/p", "x", "lab", "/plan"], {"tasks": 5}, NEW)
    found: dict[Any, Any] = {row[0]: row[1] for row in rows}
    assert found["User"].value == "1000"
    assert found["Slice"].value == "kconnd-1000.slice"
    assert found["TasksMax"].value == 6
    assert "MemoryMax" not in found


def test_with_pam_a_limit_of_open_files_is_set_after_what_pam_sets() -> None:
    argv = ["/p", "x", "lab", "/plan"]
    rows = properties(1000, argv, {"tasks": 5, "open_files": 300}, NEW, pam=True)
    found: dict[Any, Any] = {row[0]: row[1] for row in rows}
    assert (found["PAMName"].value, found["TasksMax"].value) == ("kconnd", 7)
    assert found["Type"].value == "simple"
    ((path, words, _),) = found["ExecStart"].value
    assert (path, words[-5:]) == ("/bin/sh", ["300", *argv])
    say = [sys.executable, "-c", "import resource as r; print(r.getrlimit(r.RLIMIT_NOFILE))"]
    for before, after in ((777, 300), (200, 200)):  # as PAM may have left it
        lowered = ["sh", "-c", f'ulimit -n {before}; exec "$@"', "sh", *words[:-4], *say]
        out = subprocess.run(lowered, capture_output=True, text=True, check=True).stdout
        assert out == f"({after}, {after})\n"
    bare: dict[Any, Any] = {row[0]: row[1] for row in properties(1000, argv, {}, NEW, pam=True)}
    assert bare["ExecStart"].value == [["/p", argv, False]]
    assert "PAMName" not in [row[0] for row in properties(1000, argv, {}, NEW)]


@pytest.mark.parametrize(
    ("systemd", "kill", "ends_with", "pam"),
    [
        (0, "process", None, None),  # it did not say
        (249, "process", None, None),
        (250, "control-group", "cgroup", "kconnd"),
    ],
)
def test_a_unit_does_not_end_with_its_main_process(
    systemd: int, kill: str, ends_with: str | None, pam: str | None
) -> None:
    rows = properties(1000, ["/p", "x", "lab", "/plan"], {}, systemd, pam=True)
    found: dict[Any, Any] = {row[0]: row[1].value for row in rows}  # type: ignore[attr-defined]  # rows hold Variants
    assert (found["KillMode"], found.get("ExitType"), found.get("PAMName")) == (
        kill,
        ends_with,
        pam,
    )


@pytest.mark.parametrize(
    ("text", "version"),
    [("252.38-1~deb12u1", 252), ("v255.4-1-arch", 255), ("254~rc1", 254), ("", 0)],
)
def test_the_version_of_systemd(text: str, version: int) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(("systemd", "policy"), [(0, None), (252, None), (253, "continue")])
def test_a_worker_that_is_killed_for_its_memory_takes_no_forked_kernel_along(
    systemd: int, policy: str | None
) -> None:
    rows = scope_properties(1000, "lab", 77, {"memory": 1e9}, systemd)
    found: dict[Any, Any] = {row[0]: row[1].value for row in rows}  # type: ignore[attr-defined]  # rows hold Variants
    assert found.get("OOMPolicy") == policy
    assert (found["PIDs"], found["MemoryMax"]) == ([77], 10**9)
    unit = properties(1000, ["/p", "x", "lab", "/plan"], {}, NEW)
    assert {row[0]: row[1].value for row in unit}["OOMPolicy"] == "continue"  # type: ignore[attr-defined]  # the same


@pytest.mark.parametrize(
    ("asked", "machine", "found"),
    [
        ({}, None, {}),
        ({"memory": 5.0}, None, {"memory": 5.0}),
        ({"memory": 5000.0}, Limits(memory=4096), {"memory": 4096}),
        ({"memory": 2.0, "tasks": 9.0}, Limits(memory=4096), {"memory": 2.0, "tasks": 9.0}),
        ({}, Limits(tasks=7), {"tasks": 7}),
    ],
)
def test_the_stricter_limit_holds(
    asked: dict[str, float], machine: Limits | None, found: dict[str, float]
) -> None:
    assert stricter(asked, machine) == found


def test_units_and_scopes_stay_at_an_isolate_and_end_after_their_daemon() -> None:
    for rows in (
        properties(1000, ["python", "lab", "plan"], {}, 252),
        scope_properties(1000, "lab", 7, {}, 252),
    ):
        found: dict[str, Any] = {str(key): getattr(value, "value", None) for key, value in rows}
        assert found["IgnoreOnIsolate"] is True
        assert found["Before"] == ["kconnd@1000.service"]
        assert found["TimeoutStopUSec"] > shim.UNIT_STOP_GRACE_S * 1e6, "else nobody sees its end"
