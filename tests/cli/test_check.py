"""``check`` and ``schema``: what they print, and their exit codes."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from kconnd.cli.main import main
from tests.cli.fake_daemon import FakeDaemon


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty folder that is where profiles are by default; no daemon answers."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("KCONND_SOCKET", str(tmp_path / "no-daemon"))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    spec = tmp_path / "jupyter/kernels/python3/kernel.json"
    spec.parent.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "x", "language": "python"}))
    configs = tmp_path / "kconnd" / "configs"
    configs.mkdir(parents=True)
    configs.chmod(0o755)
    return configs


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(0o644)
    return path


def test_the_user_s_own_folder_is_the_default(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, "a.yaml", "kernel: python3\n")
    assert main(["check"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"read {folder} (by default: no daemon answers)",
        "1 profile, 0 faults",
    ]


def test_no_folder_yet_is_no_fault(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.rmdir()
    assert main(["check"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"read {folder} (does not exist) (by default: no daemon answers)",
        "0 profiles, 0 faults",
    ]


def test_faults_come_one_a_line_and_a_summary(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, "a.yaml", "kernel: python3\n")
    bad = write(folder, "b.yaml", "kernel: python3\nwarm: x\ncwdd: /\n")
    assert main(["check", str(folder)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{bad}:2:7: warm: 'x' is not a whole number",
        "    warm: x",
        "          ^",
        f"{bad}:3:1: cwdd: unknown key; did you mean 'cwd'?",
        "    cwdd: /",
        "    ^",
        "1 profile, 2 faults",
    ]


def test_a_start_that_would_fail_is_a_warning_and_no_fault(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = write(folder, "b.yaml", "kernels:\n  lab: {kernel: python3, cwd: /no/such}\n")
    assert main(["check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        f"{bad}:2:31: warning: kernels.lab.cwd: entering the folder /no/such"
    )
    assert lines[1:] == [
        "      lab: {kernel: python3, cwd: /no/such}",
        f"    {' ' * 30}^",
        f"read {folder} (by default: no daemon answers)",
        "1 profile, 0 faults, 1 warning",
    ]


def test_the_folders_are_those_of_the_daemon_that_answers(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    write(theirs, "a.yaml", "kernel: python3\nwarm: x\n")
    write(folder, "b.yaml", "kernel: python3\n")
    with tempfile.TemporaryDirectory(prefix="kc") as short, FakeDaemon(Path(short, "s")) as daemon:
        health = {"socket": "/s", "configs": [str(theirs)], "system_configs": []}
        daemon.replies["GET", "/v1/health"] = health | {"kernelspec_dirs": []}
        assert main(["check", "--socket", str(daemon.path)]) == 1
        assert capsys.readouterr().out.splitlines()[-2:] == [
            f"read {theirs} (of the daemon on /s)",
            "0 profiles, 1 fault",
        ]
        daemon.replies["GET", "/v1/health"] = health | {
            "configs": [str(folder)],
            "kernelspec_dirs": [str(tmp_path / "none")],
            "home": str(tmp_path / "home"),
        }
        write(folder, "c.yaml", "argv: [/bin/cat, '{connection_file}']\ncwd: ~/x\n")
        (tmp_path / "home/x").mkdir(parents=True)
        assert main(["check", "--socket", str(daemon.path), "--json"]) == 0
    checked = json.loads(capsys.readouterr().out)
    assert checked["read"] == [str(folder)]
    assert checked["daemon"] == "/s"
    assert [warning["path"] for warning in checked["warnings"]] == ["kernel"]


def test_the_machine_s_profiles_are_not_looked_at_by_root(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kconnd.system.profiles.review.SYSTEM_CONFIGS_DIR", str(folder))
    path = write(folder, "a.yaml", "kernel: python3\ncwd: /no/such\n")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert main(["check", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"not looked at: a ({path}) is for other users than root",
        "1 profile, 0 faults",
    ]


def test_json_has_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write(folder, "a.yaml", "kernel: python3\n")
    bad = write(folder, "b.yaml", "kernel: python3\ncwdd: /\n")
    assert main(["check", "--json", str(good), str(bad)]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "profiles": [{"name": "a", "file": str(good), "line": 1}],
        "warnings": [],
        "not_looked_at": [],
        "read": [str(good), str(bad)],
        "daemon": None,
        "faults": [
            {
                "file": str(bad),
                "line": 2,
                "column": 1,
                "path": "cwdd",
                "message": "unknown key",
                "hint": "did you mean 'cwd'?",
            }
        ],
    }


def test_a_path_that_is_not_there_is_a_usage_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, "a.yaml", "kernel: python3\n")
    assert main(["check", str(folder), str(folder / "none")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"kconnd-ctl: check: {folder}/none does not exist\n"


@pytest.mark.parametrize("verb", ["check", "schema"])
def test_help_has_an_example_and_an_unknown_option_is_usage(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: kconnd-ctl {verb}")
    assert "example:" in shown
    assert main([verb, "--nonsense"]) == 2
    assert "--nonsense" in capsys.readouterr().err


def test_schema_prints_a_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    Draft202012Validator.check_schema(printed)
    assert Draft202012Validator(printed).is_valid({"kernel": "python3"})


def test_importing_the_verbs_loads_neither_yaml_nor_pydantic() -> None:
    code = (
        "import sys, kconnd.cli.check; "
        "print(sorted({'yaml', 'pydantic', 'kconnd.core.profile.schema'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    assert ran.stdout == "[]\n"
