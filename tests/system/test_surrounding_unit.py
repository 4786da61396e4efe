"""With what a real process ends."""

import os
from pathlib import Path

import pytest

from kconnd.core.job_cgroups import Enclosure, Kind
from kconnd.system import surrounding_unit
from kconnd.system.surrounding_unit import enclosure_of

UNIT = Enclosure(Kind.UNIT, "the service lab.service", "lab.service")


def test_a_process_that_has_ended_ends_with_nothing() -> None:
    assert enclosure_of(1 << 22) is None


def test_a_container_is_known_by_its_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surrounding_unit, "find_enclosure", lambda _cgroup: None)
    monkeypatch.setattr(surrounding_unit, "CONTAINER_MARKS", (str(tmp_path / "mark"),))
    assert enclosure_of("self") is None
    (tmp_path / "mark").touch()
    assert enclosure_of("self") == Enclosure(Kind.CONTAINER, "this container")


@pytest.mark.parametrize(
    ("said", "ends"),
    [("control-group", True), ("mixed", True), ("process", False), ("none", False), ("", True)],
)
def test_a_unit_that_spares_processes_does_not_count(
    said: str, ends: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "systemctl"
    program.write_text(f'#!/bin/sh\necho "$*" >{tmp_path}/asked\necho {said}\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(surrounding_unit, "find_enclosure", lambda _cgroup: UNIT)
    assert (enclosure_of("self") == UNIT) is ends
    asked = (tmp_path / "asked").read_text(encoding="utf-8")
    assert asked == "show --property=KillMode --value -- lab.service\n"


def test_without_systemctl_a_unit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(surrounding_unit, "find_enclosure", lambda _cgroup: UNIT)
    assert enclosure_of("self") == UNIT
