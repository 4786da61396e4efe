"""Look-ups of programs on a real disk; each is a step that may hang."""

import os
from pathlib import Path

import pytest

from kconnd.system.files.program_files import HEAD_BYTES, ProgramFiles
from kconnd.system.hung_calls import StuckError, ignore_step

FILES = ProgramFiles(ignore_step)


def test_only_a_file_with_x_bit_is_a_program(tmp_path: Path) -> None:
    program, plain = tmp_path / "program", tmp_path / "plain"
    for path in (program, plain):
        path.touch()
    program.chmod(0o755)
    (tmp_path / "link").symlink_to("program")
    (tmp_path / "dead").symlink_to("gone")
    seen = {path.name: FILES.is_executable(str(path)) for path in tmp_path.iterdir()}
    assert seen == {"program": True, "link": True, "plain": False, "dead": False}
    assert not FILES.is_executable(str(tmp_path))
    assert not FILES.is_executable("a\0b")


def test_a_link_to_a_missing_file_exists(tmp_path: Path) -> None:
    (tmp_path / "dead").symlink_to("gone")
    assert FILES.exists(str(tmp_path / "dead"))
    assert not FILES.exists(str(tmp_path / "gone"))
    assert FILES.resolve(str(tmp_path / "dead")) == str(tmp_path / "gone")


def test_the_beginning_of_a_file_is_read_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "script").write_bytes(b"#!/a\xff\n" + bytes(HEAD_BYTES))
    head = FILES.read_head(str(tmp_path / "script"))
    assert (os.fsencode(head)[:6], len(head)) == (b"#!/a\xff\n"[:6], HEAD_BYTES)
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "gone", "."):
        assert FILES.read_head(str(tmp_path / name)) == ""


def test_each_look_up_is_a_step_that_may_hang() -> None:
    def hang(step: str) -> None:
        raise StuckError(step)

    files = ProgramFiles(hang)
    for look_up in (files.is_executable, files.exists, files.resolve, files.read_head):
        with pytest.raises(StuckError, match="/nfs/R"):
            look_up("/nfs/R")
