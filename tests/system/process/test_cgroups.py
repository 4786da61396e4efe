"""Which unit of the system's a place in the tree of control groups is in."""

import os

import pytest

from kconnd.core.paths import daemon_cgroup
from kconnd.system.process.cgroups import (
    cgroup_of,
    members,
    parse_cgroup,
    strip_manager_root,
    unit_in,
)
from kconnd.system.process.processes import ProcessId, read_stat


@pytest.mark.parametrize(
    ("place", "unit"),
    [
        ("/kconnd.slice/kconnd-7.slice/kconnd@7.service", "kconnd@7.service"),
        ("/kconnd.slice/kconnd-7.slice/kconnd@7.service/below", "kconnd@7.service"),
        ("/user.slice/user-7.slice/user@7.service/app.slice/kconnd@7.service", "user@7.service"),
        ("/user.slice/user-7.slice/session-1.scope/kconnd@7.service", "session-1.scope"),
        ("/kconnd.slice", ""),
        ("/", ""),
        ("", ""),
    ],
)
def test_what_is_below_a_unit_is_of_that_unit_whatever_it_is_called(place: str, unit: str) -> None:
    assert unit_in(place) == unit


@pytest.mark.parametrize(
    ("place", "manager", "is_daemon"),
    [
        ("/kconnd.slice/kconnd-7.slice/kconnd@7.service", "/init.scope", True),
        ("/box/kconnd.slice/kconnd-7.slice/kconnd@7.service", "/box/init.scope", True),
        ("/kconnd.slice/kconnd-7.slice/kconnd@7.service", "/", True),
        ("/kconnd.slice/kconnd-7.slice/kconnd@7.service/below", "/init.scope", False),
        ("/kconnd.slice/kconnd-7.slice/kconnd@7.service (deleted)", "/init.scope", False),
        ("/kconnd.slice/kconnd-7.slice/kconnd@77.service", "/init.scope", False),
        ("/kconnd.slice/kconnd-77.slice/kconnd@7.service", "/init.scope", False),
        ("/kconnd.slice/kconnd@7.service", "/init.scope", False),
        ("/user.slice/kconnd.slice/kconnd-7.slice/kconnd@7.service", "/init.scope", False),
        ("/box/kconnd.slice/kconnd-7.slice/kconnd@7.service", "/init.scope", False),
        ("", "/init.scope", False),
        ("", "", False),
    ],
)
def test_a_daemons_place_is_exactly_one(place: str, manager: str, is_daemon: object) -> None:
    assert (strip_manager_root(place, manager) == daemon_cgroup(7)) is is_daemon


@pytest.mark.parametrize(
    ("rows", "unified", "place"),
    [
        (b"9:name=systemd:/a\n8:pids:/b\n0::/c\n", False, "/a"),
        (b"9:name=systemd:/a\n8:pids:/b\n", False, "/a"),
        (b"0::/c\n", True, "/c"),
        (b"9:name=systemd:/a\n0::/c\n", True, "/c"),  # somebody's own, which proves nothing
        (b"0::/c\n", False, "/c"),
        (b"8:pids:/b\n", False, ""),
        (b"9:name=systemd:/a:b\n", False, "/a:b"),
        (b"", True, ""),
    ],
)
def test_the_managers_tree(rows: bytes, unified: bool, place: str) -> None:  # noqa: FBT001
    assert parse_cgroup(rows, unified=unified) == place


def test_the_members_of_a_cgroup_are_the_processes_in_it() -> None:
    ours = ProcessId(os.getpid(), read_stat(os.getpid())[2])
    assert ours in members(cgroup_of(ours.pid))
    assert ours not in members("/no-such.slice")
