"""Files that look like profiles and are not read, and numbers that YAML reads as octal."""

import os
from pathlib import Path

import pytest

from kconnd.core.profile.problems import Problem
from kconnd.system.hung_calls import ignore_step
from kconnd.system.profiles import overlooked
from kconnd.system.profiles.loader import SourcedProfile, load_profiles
from kconnd.system.profiles.overlooked import find_misread_numbers, find_overlooked
from kconnd.system.profiles.source_text import SourceText

READ = ("a.yaml", "b.yml", "c.YAML.yaml")
SIMILAR = (".hidden.yaml", "d.YAML", "e.Yml", "f.yaml.txt")
OTHER = ("g.txt", ".#a.yaml", "h.yaml~", ".a.yaml.swp", "yaml", "i.json", "j.yaml.bak")


def test_files_with_similar_names_are_told_and_no_others(tmp_path: Path) -> None:
    for name in (*READ, *SIMILAR, *OTHER):
        (tmp_path / name).write_text("kernel: python3\n")
        (tmp_path / name).chmod(0o644)
    tmp_path.chmod(0o755)
    warnings = find_overlooked(str(tmp_path), ignore_step)
    assert [Path(warning.file).name for warning in warnings] == list(SIMILAR)
    assert [warning.hint for warning in warnings] == [
        "rename it to hidden.yaml",
        "rename it to d.yaml",
        "rename it to e.yaml",
        "rename it to f.yaml",
    ]
    files = {Path(item.file).name for item in load_profiles([tmp_path]).profiles.values()}
    assert files == set(READ)


def test_links_to_nothing_and_folders_of_profiles_are_told(tmp_path: Path) -> None:
    (tmp_path / "gone.yaml").symlink_to("nowhere")
    (tmp_path / "gone.txt").symlink_to("nowhere")
    for folder, name in (("more", "a.yaml"), ("notes", "a.txt"), (".git", "a.yaml")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).touch()
    warnings = find_overlooked(str(tmp_path), ignore_step)
    assert [Path(warning.file).name for warning in warnings] == ["gone.yaml", "more"]
    assert warnings[1].hint == f"move them to {tmp_path}"
    for path in (tmp_path / "more/a.yaml", tmp_path / "missing"):
        assert find_overlooked(str(path), ignore_step) == []


def test_a_profile_of_the_machine_that_users_cannot_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, mode in (("a.yaml", 0o600), ("b.yaml", 0o644)):
        (tmp_path / name).touch(mode)
        (tmp_path / name).chmod(mode)
    assert find_overlooked(str(tmp_path), ignore_step) == []
    monkeypatch.setattr(overlooked, "SYSTEM_CONFIGS_DIR", os.fspath(tmp_path))
    (warning,) = find_overlooked(str(tmp_path), ignore_step)
    assert warning.message == "the daemons of users cannot read it (mode 0600)"


@pytest.mark.parametrize("below_kernels", [True, False])
def test_octal_numbers_are_told_and_others_are_not(tmp_path: Path, below_kernels: bool) -> None:  # noqa: FBT001  # pytest's way
    keys = (
        "kernel: python3, warm: 010, stop_timeout: 1:30, umask: '077', "
        "env: {A: 010}, limits: {tasks: 0100, open_files: 100, memory: 0x10000}, "
        "log: {keep: 0}, startup_timeout: 1_0"
    )
    path = tmp_path / "lab.yaml"
    path.write_text(f"kernels: {{lab: {{{keys}}}}}" if below_kernels else f"{{{keys}}}")
    path.chmod(0o644)
    loaded = load_profiles([path])
    sourced = loaded.profiles.get("lab")
    if sourced is None:
        # 1:30 is no duration, which is a fault of its own.
        path.write_text(path.read_text().replace("1:30", "90"))
        sourced = load_profiles([path]).profiles["lab"]
    assert isinstance(sourced, SourcedProfile)
    problems = find_misread_numbers(SourceText(ignore_step).values(sourced))
    assert problems == [
        Problem(
            ("warm",),
            "010 is the octal number 8 in YAML",
            "write 8, or the number without the leading zero",
        ),
        Problem(
            ("limits", "tasks"),
            "0100 is the octal number 64 in YAML",
            "write 64, or the number without the leading zero",
        ),
    ]
