"""What doctor finds in the session that a daemon is started from."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kconnd.cli import session_checks
from kconnd.cli.findings import Finding, Surroundings
from kconnd.core.job_cgroups import Enclosure, Kind
from kconnd.errors import UnreachableError
from tests.conftest import wait_for

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


def test_a_home_that_does_not_exist_is_bad(
    around: Around, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = str(tmp_path / "none")
    monkeypatch.setenv("HOME", home)
    findings = list(session_checks.check_home(around(home=home)))
    assert levels(findings) == ["bad"]
    assert findings[0].cure.startswith(f"the home folder {home} does not exist: create it")


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


def test_a_job_in_variables_alone_is_a_warning(
    around: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_checks, "enclosure_of", lambda _pid: None)
    assert list(session_checks.check_enclosure(around())) == []
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    (finding,) = session_checks.check_enclosure(around())
    assert finding.level == "warn"
    assert "ends with the Slurm job 77 if this session is a part of it" in finding.message
    # The variables of this session say nothing about a daemon that runs.
    assert list(session_checks.check_enclosure(around(health={"pid": os.getpid()}))) == []


@pytest.mark.parametrize(
    ("kind", "level"), [(Kind.JOB, "bad"), (Kind.UNIT, "bad"), (Kind.CONTAINER, "warn")]
)
def test_what_the_daemon_ends_with_is_named(
    kind: Kind, level: str, around: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[object] = []

    def enclosure_of(pid: object) -> Enclosure:
        pids.append(pid)
        return Enclosure(kind, "the thing 7", "x.service")

    monkeypatch.setattr(session_checks, "enclosure_of", enclosure_of)
    findings = list(session_checks.check_enclosure(around()))
    findings += session_checks.check_enclosure(around(health={"pid": 7}))
    assert levels(findings) == [level, level]
    assert findings[0].message.startswith("a daemon that is started here ends with the thing 7")
    assert findings[1].message.startswith("the daemon ends with the thing 7, and so do its kernels")
    assert pids == ["self", 7]


def test_what_kernels_inherit_is_named(around: Around) -> None:
    with subprocess.Popen(["/usr/bin/nice", "-n", "19", "/bin/sleep", "60"]) as process:
        wait_for(lambda: os.getpriority(os.PRIO_PROCESS, process.pid) == 19, "nice")  # its limit
        findings = list(session_checks.check_inherited(around(health={"pid": process.pid})))
        process.kill()
    assert "kernels give way to other processes (nice 19)" in [one.message for one in findings]
    assert all(f"after kill {process.pid}" in one.cure for one in findings)
    assert list(session_checks.check_inherited(around(health={"pid": process.pid}))) == []


def test_a_daemon_with_another_tmp_is_bad(around: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_checks, "find_hidden_daemon", lambda _state: 7)
    (finding,) = session_checks.check_tmp(around())
    assert finding.message.startswith("the daemon, pid 7, has another /tmp than this session")
    assert "then kill 7" in finding.cure
    assert list(session_checks.check_tmp(around(health={"pid": 7}))) == []
