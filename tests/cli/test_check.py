"""``check`` and ``schema``: what they print, and their exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from kconnd.cli.main import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty folder that is where profiles are by default."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
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
    assert capsys.readouterr().out == "1 profile, 0 faults\n"


def test_no_folder_yet_is_no_fault(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.rmdir()
    assert main(["check"]) == 0
    assert capsys.readouterr().out == "0 profiles, 0 faults\n"


def test_faults_come_one_a_line_and_a_summary(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, "a.yaml", "kernel: python3\n")
    bad = write(folder, "b.yaml", "kernel: python3\nwarm: x\ncwdd: /\n")
    assert main(["check", str(folder)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{bad}:2:7: warm: 'x' is not a whole number",
        f"{bad}:3:1: cwdd: unknown key; did you mean 'cwd'?",
        "1 profile, 2 faults",
    ]


def test_json_has_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write(folder, "a.yaml", "kernel: python3\n")
    bad = write(folder, "b.yaml", "kernel: python3\ncwdd: /\n")
    assert main(["check", "--json", str(good), str(bad)]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "profiles": [{"name": "a", "file": str(good), "line": 1}],
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
