"""What doctor finds in folders that are as they should be, and in others."""

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from kconnd.cli import doctor
from kconnd.cli.findings import Finding, Surroundings
from kconnd.core.names import derived_name
from kconnd.errors import UnreachableError
from tests.cli.conftest import Ctl
from tests.cli.fake_daemon import FakeDaemon


@pytest.fixture(name="around")
def _around(folder: Path) -> Surroundings:
    for name in ("r", "c"):
        (folder / name).mkdir(mode=0o700)
    return Surroundings(
        health=UnreachableError("no daemon answers"),
        runtime=folder / "r",
        state=folder / "not-yet",
        configs=(folder / "c",),
        user="nobody",
    )


def levels(findings: Iterator[Finding]) -> list[str]:
    found = list(findings)
    for one in found:
        assert one.message
        assert (one.level == "ok") == (one.cure == "")
    return [one.level for one in found]


def test_without_a_daemon_it_says_so_and_goes_on(ctl: Ctl) -> None:
    shown = ctl("doctor", "--json")
    findings = shown.json()["findings"]
    assert len(findings) > 8
    assert "no kconnd daemon answers" in findings[0]["what"]
    assert findings[0]["cure"] == "kconnd-ctl start NAME starts one"
    assert all(set(one) == {"level", "what", "cure"} for one in findings)
    assert shown.code == int(any(one["level"] == "bad" for one in findings))


def test_text_has_a_cure_below_each_trouble(ctl: Ctl) -> None:
    shown = ctl("doctor").out.splitlines()
    for line, after in pairwise(shown):
        if line.startswith(("warn", "bad")):
            assert after.startswith("     → ")
    assert "\033" not in "".join(shown)


def test_a_daemon_that_answers_is_told_and_its_folders_are_looked_at(
    ctl: Ctl, daemon: FakeDaemon, around: Surroundings
) -> None:
    around.runtime.chmod(0o755)
    health: dict[str, Any] = {"version": "1", "pid": 7, "socket": "/s", "running": 1, "kernels": 2}
    daemon.replies["GET", "/v1/health"] = health | {
        "faults": 3,
        "runtime_dir": str(around.runtime),
        "state_dir": str(around.state),
        "configs": [str(around.configs[0])],
    }
    shown = ctl("doctor")
    assert shown.code == 1
    lines = shown.out.splitlines()
    assert lines[0] == "ok   daemon 1, pid 7, on /s: 1 of 2 kernels run"
    assert lines[1] == "bad  its profiles have 3 faults"
    assert f"bad  {around.runtime} is not private to you (uid {os.getuid()}, mode 0755)" in lines
    assert f"ok   0 profiles in {around.configs[0]}" in lines


def test_a_start_that_would_fail_is_a_warning(around: Surroundings) -> None:
    profile = around.configs[0] / "lab.yaml"
    profile.write_text("argv: [/bin/cat, '{connection_file}']\ncwd: /no/such\n")
    profile.chmod(0o644)
    first, second = doctor.check_profiles(around)
    assert (first.level, first.message) == ("ok", f"1 profile in {around.configs[0]}")
    assert second.level == "warn"
    assert second.message.startswith(f"{profile}:2:6: cwd: entering the folder /no/such: ")
    assert second.cure.startswith("create /no/such ")


@pytest.mark.parametrize(("mode", "level"), [(0o700, "ok"), (0o750, "bad"), (0o777, "bad")])
def test_a_folder_that_others_can_enter_is_bad(mode: int, level: str, around: Surroundings) -> None:
    around.runtime.chmod(mode)
    assert levels(doctor.check_folders(around)) == [level, "ok"]


def test_a_link_in_place_of_a_folder_is_bad(around: Surroundings) -> None:
    around.state.symlink_to(around.runtime)
    assert levels(doctor.check_folders(around)) == ["ok", "bad"]


@pytest.mark.parametrize(("length", "level"), [(10, "ok"), (90, "bad")])
def test_a_runtime_folder_with_a_long_path_is_bad(
    length: int, level: str, around: Surroundings
) -> None:
    vars(around)["runtime"] = Path("/" + "x" * length)
    assert levels(doctor.check_path_length(around)) == [level]


def test_profiles_are_counted_and_their_faults_are_bad(around: Surroundings) -> None:
    assert levels(doctor.check_profiles(around)) == ["ok"]
    (around.configs[0] / "lab.yaml").write_text("kernels: [}\n")
    assert levels(doctor.check_profiles(around)) == ["bad"]


def test_a_kernel_spec_whose_derived_name_is_taken_is_a_warning(
    around: Surroundings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_PATH", str(folder))
    for spec in ("C++", "D \x1b[31m", "E+", "F+", derived_name("e+")):
        (folder / "kernels" / spec).mkdir(parents=True)
        (folder / "kernels" / spec / "kernel.json").write_text("{}")
    for spec, kernel in (("C++", "other"), ("F+", "F+")):
        text = f"kernel: {kernel}\n"
        (around.configs[0] / f"{derived_name(spec)}.yaml").write_text(text)
    shown, *warnings = doctor.check_kernel_specs(around)
    assert f"{derived_name('c++')} (derived from 'c++')" in shown.message
    assert r"(derived from 'd \x1b[31m')" in shown.message
    assert [finding.level for finding in warnings] == ["warn", "warn"]
    assert "the kernel spec 'c++' has no kernel name: the profile in /" in warnings[0].message
    assert f"the kernel spec {derived_name('e+')} has" in warnings[1].message
    assert warnings[1].cure.endswith("the line: kernel: 'e+'")


def test_other_checks_run_here(around: Surroundings) -> None:
    for check in (
        doctor.check_logout,
        doctor.check_shared_memory,
        doctor.check_kernel_specs,
        doctor.check_consoles,
        doctor.check_open_files,
    ):
        assert levels(check(around))


@pytest.mark.parametrize("units", [[], ["kconnd-kernel-7-lab-1.service"]])
def test_what_may_be_the_new_accounts_is_to_be_looked_at_and_only_old_units_are_ended(
    units: list[str],
) -> None:
    aside = {"uid": 7, "name": "ada", "at": "2026-01-01", "folder": "/x", "units": units}
    found = doctor.describe_earlier_account({**aside, "pids": [11, 12]})
    assert found.level == "warn"
    assert "2 of its processes still run" in found.message
    assert found.cure.endswith("check whose they are: ps -o pid,lstart,args -p 11,12")
    assert "kill" not in found.cure
    assert [f"systemctl stop {unit};" in found.cure for unit in units] == [True] * len(units)
    assert ("systemctl stop" in found.cure) == bool(units)
    assert doctor.describe_earlier_account({**aside, "pids": []}).level == "ok"
