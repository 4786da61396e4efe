"""A file is recognised after a rename, and a new file is not taken for a deleted one."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from kconnd.system.files import file_identity
from kconnd.system.files.file_identity import identify_file

WAYS = ("handle", "birth time")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Identify files by their handle, or as on a system without handles."""
    if request.param == "birth time":
        call: Any = file_identity._call
        monkeypatch.setattr(
            file_identity,
            "_call",
            lambda name, *arguments: name == "statx" and call(name, *arguments),
        )
    return str(request.param)


def test_a_file_keeps_its_identity_and_no_other_has_it(tmp_path: Path, way: str) -> None:
    file, other, link = tmp_path / "a b", tmp_path / "ü", tmp_path / "link"
    file.write_text("1")
    identity = identify_file(str(file))
    if not identity:
        pytest.skip(f"this file system has no {way}")
    file.write_text("22")
    link.symlink_to(file)
    assert identify_file(str(file)) == identify_file(str(link)) == identity
    file.rename(other)
    assert identify_file(str(other)) == identity
    shutil.copy2(other, file)
    assert identify_file(str(file)) != identity
    shutil.copy2(other, tmp_path / "new")
    (tmp_path / "new").replace(other)
    assert identify_file(str(other)) != identity


def test_a_new_file_with_the_number_of_a_deleted_one_is_another(tmp_path: Path, way: str) -> None:
    file = tmp_path / "a"
    seen, numbers = set(), set()
    for _ in range(20):
        file.write_text("1")
        numbers.add(file.stat().st_ino)
        seen.add(identify_file(str(file)))
        file.unlink()
    if seen == {""}:
        pytest.skip(f"this file system has no {way}")
    assert len(seen) == 20, len(numbers)


def test_what_is_no_file_has_no_identity(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "fifo", "a\0b"):
        assert identify_file(str(path)) == ""


def test_without_a_call_nothing_identifies_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_identity, "_library", object)
    (tmp_path / "a").touch()
    assert identify_file(str(tmp_path / "a")) == ""
