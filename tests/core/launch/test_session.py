"""The session of an owner's client: parsed as data, bounded, without names that may not pass."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given

from kconnd.core.launch.session import (
    LOGIN_SHELL,
    MAX_SESSION_BYTES,
    Session,
    Umask,
    UmaskSource,
    check_sent,
    choose_umask,
    describe_session,
    inherit,
    is_sent_unasked,
    material_of,
    names_to_request,
    parse_session,
    session_to_json,
    taken_by,
)
from tests.core.samples import SESSIONS


@given(SESSIONS)
def test_a_session_is_read_as_it_was_written(session: Session) -> None:
    assert parse_session(json.loads(json.dumps(session_to_json(session)))) == session


def test_a_field_with_its_default_value_is_omitted() -> None:
    assert session_to_json(Session()) == {}
    assert parse_session({"field of a newer client": 1}) == Session()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("x", "session: it is not a mapping"),
        ({"path": 5}, "session.path: it is not text"),
        ({"path": "/bin\0"}, "session.path: it holds a NUL"),
        ({"prefix": "\udcff"}, "session.prefix: it is not UTF-8"),
        ({"variables": ["A=1"]}, "session.variables: it is not a mapping"),
        ({"variables": {"TMPDIR": None}}, "session.variables.TMPDIR: it is not text"),
        ({"variables": {"TMPDIR": "s3cret\0"}}, "session.variables.TMPDIR: it holds a NUL"),
        ({"variables": {"TMPDIR": "s3cret\udcff"}}, "session.variables.TMPDIR: it is not UTF-8"),
        ({"umask": "022"}, "session.umask: '022' is not a number"),
        ({"umask": True}, "session.umask: True is not"),
        ({"umask": 0o1000}, "session.umask: 512 is not a number from 0 to 511"),
        ({"umask": -1}, "session.umask: -1 is not"),
        ({"requested": "TMPDIR"}, "session.requested: it is not a list"),
        ({"requested": [5]}, "session.variables: the name 5: it is not text"),
        ({"pid": "1"}, "session.pid: '1' is not"),
        ({"time": float("inf")}, "session.time: inf is not"),
    ],
)
def test_an_invalid_session_is_refused_without_its_values(content: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        parse_session(content)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"JPY_PARENT_PID": "1"}, "'JPY_PARENT_PID' cannot be passed: a kernel exits"),
        ({"KCONND_KERNEL": "x"}, "'KCONND_KERNEL' cannot be passed: kconnd sets"),
        ({"A=B": "x"}, "'A=B' cannot be passed: it is not a name"),
        ({"": "x"}, "'' cannot be passed: it is not a name"),
        ({"LC_ALL": "x" * MAX_SESSION_BYTES}, f"the limit is {MAX_SESSION_BYTES}"),
    ],
)
def test_what_may_not_be_passed_is_refused_unless_it_is_in_a_record(
    variables: Mapping[str, str], reason: str
) -> None:
    session = parse_session({"variables": variables})
    with pytest.raises(ValueError, match=reason):
        check_sent(session)
    with pytest.raises(ValueError, match="cannot be passed"):
        check_sent(parse_session({"requested": ["KCONND_X"]}))


def test_a_client_sends_locale_time_zone_and_proxies_unasked_and_no_more() -> None:
    unasked = ("LANG", "LANGUAGE", "LC_ALL", "LC_TIME", "TZ", "http_proxy", "HTTPS_PROXY")
    assert all(map(is_sent_unasked, (*unasked, "no_proxy", "NO_PROXY", "all_proxy", "ftp_proxy")))
    assert not any(map(is_sent_unasked, ("PATH", "TMPDIR", "AWS_SECRET_ACCESS_KEY", "LANG2")))


def test_each_name_of_pass_env_is_requested_once() -> None:
    session = Session(variables={"TMPDIR": "/t"}, requested=("KRB5CCNAME", "TMPDIR"))
    assert names_to_request(session, ("TMPDIR", "KRB5CCNAME", "LANG")) == ()
    assert names_to_request(session, ("B", "TMPDIR", "A")) == ("A", "B")
    assert names_to_request(Session(), ()) == ()


def test_the_origin_of_a_session_is_not_what_the_client_says() -> None:
    session = taken_by(Session(path="/bin", client="login", pid=1, time=5.0), "kconnd-ctl", 7, 9.0)
    assert session == Session(path="/bin", client="kconnd-ctl", pid=7, time=9.0)
    assert "/bin" in repr(session)
    assert "s3cret" not in repr(Session(variables={"TOKEN": "s3cret"}))


ACCOUNT = Umask(0o002, UmaskSource.ACCOUNT)
TERMINAL = Session(
    path="/opt/bin:/bin",
    variables={"LANG": "C", "TMPDIR": "/t", "SECRET": "s3cret", "KCONND_X": "x"},
    umask=0o027,
    requested=("KRB5CCNAME", "TMPDIR"),
)


def test_a_kernel_inherits_what_its_profile_passes() -> None:
    inherited = inherit(TERMINAL, ("TMPDIR", "KCONND_X"), "/login", ACCOUNT)
    assert inherited.path == "/opt/bin:/bin"
    assert inherited.variables == {"LANG": "C", "TMPDIR": "/t"}
    assert "/t" not in repr(inherited)


def test_without_a_session_or_a_path_path_is_that_of_the_login_shell() -> None:
    inherited = inherit(None, ("TMPDIR",), "/login", ACCOUNT)
    assert (inherited.path, inherited.path_source) == ("/login", LOGIN_SHELL)
    assert inherited.variables is None
    assert inherit(Session(), (), "/login", ACCOUNT).path == "/login"


def test_the_umask_is_that_of_the_profile_or_the_client_or_the_account() -> None:
    assert choose_umask(TERMINAL, "077") == Umask(0o077, "profile")
    assert choose_umask(TERMINAL, "") == Umask(0o027, "client")
    assert choose_umask(Session(umask=0), "") == Umask(0, "client")
    assert choose_umask(Session(), "") is choose_umask(None, "") is None
    assert str(Umask(0o2, "client")) == "002"


def test_sessions_of_equal_material_differ_in_client_and_time_alone() -> None:
    assert material_of(taken_by(TERMINAL, "ctl", 7, 9.0)) == material_of(TERMINAL)
    assert material_of(None) != material_of(Session()) != material_of(TERMINAL)


def test_a_session_is_described_without_values() -> None:
    described = describe_session(TERMINAL, ("TMPDIR", "KRB5CCNAME", "NEW"))
    assert described["variables"] == ["LANG", "PATH", "TMPDIR"]
    assert (described["absent"], described["unsent"]) == (["KRB5CCNAME"], ["NEW"])
    assert "s3cret" not in repr(described)
    nothing = describe_session(None, ("NEW",))
    assert (nothing["variables"], nothing["absent"], nothing["unsent"]) == ([], [], ["NEW"])
