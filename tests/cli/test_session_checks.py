"""What doctor finds in the session that a daemon is started from."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kconnd.cli import session_checks
from kconnd.cli.findings import Finding, Surroundings
from kconnd.errors import UnreachableError

Around = Callable[..., Surroundings]


@pytest.fixture(name="around")
def _around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Around:
    monkeypatch.setenv("HOME", str(tmp_path))

    def build(**fields: Any) -> Surroundings:
        places = {"runtime": tmp_path / "r", "state": tmp_path / "s", "configs": ()}
        health = UnreachableError("no daemon answers")
        return Surroundings(
            **{**places, "health": health, "user": "nobody", "home": str(tmp_path), **fields}
        )

    return build


def levels(findings: list[Finding]) -> list[str]:
    for finding in findings:
        assert finding.message
        assert (finding.level == "ok") == (finding.cure == "")
    return [finding.level for finding in findings]


def test_a_home_from_the_environment_is_named(around: Around, tmp_path: Path) -> None:
    (finding,) = session_checks.check_home(around())
    assert finding.level == "ok"
    assert finding.message.startswith(f"the home folder is {tmp_path}, from HOME; the account has ")


def test_a_home_that_is_not_used_is_named(around: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "somewhere")
    (finding,) = session_checks.check_home(around())
    assert (finding.level, "'somewhere'" in finding.message) == ("warn", True)


def test_a_home_that_does_not_exist_is_bad(around: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/none")
    findings = list(session_checks.check_home(around(home="/none")))
    assert levels(findings) == ["bad"]
    assert findings[0].cure.startswith("the home folder /none does not exist: create it")


def test_a_daemon_with_another_home_is_named(around: Around) -> None:
    findings = list(session_checks.check_home(around(health={"pid": 7, "home": "/other"})))
    assert levels(findings) == ["ok", "warn"]
    assert "the daemon's home folder is /other" in findings[1].message
    assert findings[1].cure.endswith("kill 7")
    older = {"pid": os.getpid()}  # a daemon that does not report its home
    assert levels(list(session_checks.check_home(around(health=older)))) == ["ok"]


def test_folders_that_cannot_be_written_to_are_bad(around: Around, tmp_path: Path) -> None:
    assert list(session_checks.check_writable(around())) == []
    (tmp_path / "s").touch()
    (finding,) = session_checks.check_writable(around(state=tmp_path / "s/kconnd"))
    assert finding.level == "bad"
    assert finding.message == f"{tmp_path}/s/kconnd cannot be written to: Not a directory"
