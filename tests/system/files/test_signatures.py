"""What counts as a change of what a process has read, and what does not."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kconnd.core.launch.warm import FilesRead, parse_reading
from kconnd.system.files.signatures import Signatures


def read(folder: Path) -> Signatures:
    """Read two files, a folder that is another's concern, and one of the user's own."""
    for name in ("mine.py", "packages", "work"):
        if name.endswith(".py"):
            (folder / name).write_text("VALUE = 1")
        else:
            (folder / name).mkdir()
    places = tuple(str(folder / name) for name in ("mine.py", "config.py", "packages"))
    return Signatures(FilesRead(places, (), frozenset({"json"})), str(folder / "work"))


def replace(folder: Path) -> None:
    (folder / "work").rmdir()
    (folder / "taken").mkdir()  # so that it does not get the number that is free now
    (folder / "work").mkdir()


CHANGES: dict[str, Callable[[Path], object]] = {
    "mine.py": lambda folder: (folder / "mine.py").write_text("VALUE = 12"),
    "config.py": lambda folder: (folder / "config.py").write_text(""),
    "packages": lambda folder: (folder / "packages" / "new").mkdir(),
    "work": lambda folder: (folder / "work" / "json.py").write_text(""),
}


@pytest.mark.parametrize("place", CHANGES)
def test_a_change_is_named(tmp_path: Path, place: str) -> None:
    found = read(tmp_path)
    assert found.first_changed() == ""
    CHANGES[place](tmp_path)
    assert found.first_changed() == str(tmp_path / place)


def test_a_file_that_is_gone_and_a_folder_that_is_another_have_changed(tmp_path: Path) -> None:
    found = read(tmp_path)
    (tmp_path / "mine.py").unlink()
    assert found.first_changed() == str(tmp_path / "mine.py")
    (tmp_path / "mine.py").write_text("VALUE = 1")
    found = Signatures(FilesRead((), (), frozenset()), str(tmp_path / "work"))
    replace(tmp_path)
    assert found.first_changed() == str(tmp_path / "work")


def test_what_hides_no_module_may_come_and_go_in_a_folder_of_ones_own(tmp_path: Path) -> None:
    found = read(tmp_path)
    for name in ("data.csv", "notjson.py", "js"):
        (tmp_path / "work" / name).write_text("")
        assert found.first_changed() == ""


def test_what_was_changed_while_it_was_read_is_named(tmp_path: Path) -> None:
    found = read(tmp_path)
    now = time.time()
    assert found.first_changed_since(now + 60) == ""
    assert found.first_changed_since(now - 60) == str(tmp_path / "mine.py")
    os.utime(tmp_path / "mine.py", (1, 1))  # as an installer does, which keeps times
    assert found.first_changed_since(now - 60) == str(tmp_path / "mine.py")


@pytest.mark.parametrize(
    "answer",
    ["", "'", "7", "'x'", "'[]'", "'[[], [], [], []]'", "'[[1], [], []]'", "'[1, [], []]'"],
)
def test_an_answer_that_makes_no_sense_is_none(answer: str) -> None:
    assert parse_reading(answer) is None


def test_an_answer_is_read() -> None:
    answer = repr('[["/bin/python", "/x/\\udc80"], ["/home"], ["os", "json"]]')
    assert parse_reading(answer) == FilesRead(
        ("/bin/python", "/x/\udc80"), ("/home",), frozenset({"os", "json"})
    )
