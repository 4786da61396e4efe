"""The session that a client sends: what of its environment, to which daemon, and when."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kconnd.client import Client
from kconnd.client.caller_session import caller_session
from kconnd.core.launch.session import MAX_SESSION_BYTES, parse_session
from kconnd.errors import SessionWantedError, UsageError
from tests.cli.fake_daemon import FakeDaemon, Request

SAY = """\
import json, os
os.umask(0o027)
from kconnd.client.caller_session import caller_session
print(json.dumps(caller_session(["TMPDIR", "KRB5CCNAME"])))
"""
ENV = {
    "PATH": "/opt/bin:/opt/\udcff:/bin",
    "LC_ALL": "C.UTF-8",
    "LC_BAD": "\udcff",
    "https_proxy": "http://proxy:3128",
    "TMPDIR": "/scratch",
    "AWS_SECRET_ACCESS_KEY": "s3cret",
}


def session_of(env: Mapping[str, str], *command: str) -> dict[str, Any]:
    """Return the session of a process with an environment."""
    run = subprocess.run(
        [*(command or (sys.executable,)), "-c", SAY], env=env, check=True, stdout=subprocess.PIPE
    )
    content: dict[str, Any] = json.loads(run.stdout)
    return content


def test_a_session_has_path_umask_locale_and_proxies_and_what_was_requested() -> None:
    session = parse_session(session_of(ENV))
    assert session.path == "/opt/bin:/bin", "a folder that is not UTF-8 cannot be sent"
    assert session.umask == 0o027
    assert session.variables == {
        "LC_ALL": "C.UTF-8",
        "https_proxy": "http://proxy:3128",
        "TMPDIR": "/scratch",
    }
    assert session.requested == ("KRB5CCNAME", "TMPDIR")


def test_a_session_without_variables_has_none() -> None:
    session = parse_session(session_of({"PYTHONCOERCECLOCALE": "0"}))
    assert (session.path, session.variables) == ("", {})


def test_the_prefix_is_sent_if_the_environment_is_the_user_s_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    assert "prefix" not in caller_session(), "there is no such folder"
    (tmp_path / "venv").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert caller_session()["prefix"] == str(tmp_path / "venv")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert "prefix" not in caller_session(), "it belongs to another user"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("HOME", str(tmp_path / "other"))
    assert "prefix" not in caller_session(), "root owns it, as root owns all of the machine"


def test_a_session_that_is_too_large_names_its_longest_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BIG", "x" * MAX_SESSION_BYTES)
    caller_session()
    with pytest.raises(UsageError, match=f"the limit is {MAX_SESSION_BYTES}") as caught:
        caller_session(["BIG"])
    assert caught.value.hint.startswith("shorten BIG")


def wants(request: Request) -> Any:
    """Reply as a daemon whose profile passes TMPDIR."""
    if "TMPDIR" in request.body.get("session", {}).get("requested", []):
        return {"name": "lab"}
    error = SessionWantedError("starting lab: it passes TMPDIR", hint="start it again")
    error.names = ("TMPDIR",)
    return error


def test_a_launch_sends_what_the_daemon_requests_in_a_second_request(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "/scratch")
    daemon.replies["POST", "/v1/kernels/lab/restart"] = wants
    reply = Client(str(daemon.path)).launch("lab", "restart", {"now": True})
    assert reply == {"name": "lab"}
    first, second = (request.body for request in daemon.requests)
    assert first["now"] is second["now"] is True
    assert "TMPDIR" not in first["session"].get("variables", {})
    assert second["session"]["variables"]["TMPDIR"] == "/scratch"


@pytest.mark.parametrize(("names", "requests"), [(("A",), 2), ((), 1)])
def test_a_daemon_that_requests_for_ever_or_nothing_is_not_asked_again(
    daemon: FakeDaemon, names: tuple[str, ...], requests: int
) -> None:
    error = SessionWantedError("starting lab: it passes more")
    error.names = names
    daemon.replies["POST", "/v1/kernels/lab/start"] = error
    with pytest.raises(SessionWantedError, match="it passes more"):
        Client(str(daemon.path)).launch("lab")
    assert len(daemon.requests) == requests


def test_the_daemon_of_another_owner_gets_no_session(daemon: FakeDaemon) -> None:
    daemon.replies["POST", "/v1/kernels/lab/start"] = wants
    with pytest.raises(SessionWantedError, match="says: starting lab"):
        Client(str(daemon.path), os.geteuid() + 1).launch("lab", body={"wait": False})
    assert [request.body for request in daemon.requests] == [{"wait": False}]
