"""A log is read whole: over rotations, over broken characters, and what is added meanwhile."""

import os
from pathlib import Path

import pytest

from kconnd.system.files import logs
from kconnd.system.files.logs import LogReader

WORD = "größe ☃ 👩\n"


async def first(reader: LogReader, length: int) -> str:
    text = ""
    async for piece in reader.follow():
        text += piece
        if len(text) >= length:
            break
    return text


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as stream:
        stream.write(data)


def test_the_last_lines_come_from_older_parts_too(tmp_path: Path) -> None:
    (tmp_path / "log.10").write_text("0\n")
    (tmp_path / "log.2").write_text("1\n2\n")
    (tmp_path / "log.1").write_text("3\n4\n")
    (tmp_path / "log").write_text("5\n")
    assert LogReader(tmp_path / "log").last_lines(4) == "2\n3\n4\n5\n"
    assert LogReader(tmp_path / "log").last_lines(100) == "0\n1\n2\n3\n4\n5\n"
    assert LogReader(tmp_path / "none").last_lines(4) == ""


async def test_following_goes_over_rotations(tmp_path: Path) -> None:
    path = tmp_path / "log"
    append(path, b"old\n")
    reader = LogReader(path)
    reader.last_lines(10)
    pieces = reader.follow()
    append(path, b"first\n")
    assert await anext(pieces) == "first\n"
    path.rename(tmp_path / "log.1")
    append(path, b"second\n")
    assert await anext(pieces) == "second\n"


@pytest.mark.parametrize("cut", range(1, len(WORD.encode())))
async def test_no_character_is_broken_where_the_writer_stopped(tmp_path: Path, cut: int) -> None:
    path, data = tmp_path / "log", WORD.encode()
    append(path, data[:cut])
    reader = LogReader(path)
    begun = reader.last_lines(10)
    append(path, data[cut:])
    assert begun + await first(reader, len(WORD) - len(begun)) == WORD


def test_no_character_is_broken_where_parts_meet(tmp_path: Path) -> None:
    data = WORD.encode()
    append(tmp_path / "log.1", b"one\n" + data[:7])
    append(tmp_path / "log", data[7:] + b"three")
    assert LogReader(tmp_path / "log").last_lines(10) == f"one\n{WORD}three"
    assert LogReader(tmp_path / "log").last_lines(2) == f"{WORD}three"


async def test_what_is_added_between_reading_and_following_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "log"
    append(path, b"one\n")
    reader = LogReader(path)
    assert reader.last_lines(10) == "one\n"
    append(path, b"two\n")
    path.rename(tmp_path / "log.1")
    append(path, b"three\n")
    assert await first(reader, 10) == "two\nthree\n"


def test_a_character_without_an_end_is_marked(tmp_path: Path) -> None:
    append(tmp_path / "log", "é".encode()[:1])
    reader = LogReader(tmp_path / "log")
    assert reader.last_lines(1) + reader.finish() == "\ufffd"


async def test_a_fifo_is_no_log(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    append(tmp_path / "log.1", b"old\n")
    assert LogReader(tmp_path / "log").last_lines(10) == "old\n"


def test_of_a_log_without_end_the_last_part_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over its parts together; what is older is not even opened."""
    monkeypatch.setattr(logs, "MAX_TAIL_BYTES", 10)
    path = tmp_path / "log"
    (tmp_path / "log.2").write_text("eldest\n")
    (tmp_path / "log.1").write_text("old line\n")
    path.write_text("new\n")
    assert LogReader(path).last_lines(100) == " line\nnew\n"
    path.touch()
    os.truncate(path, 1 << 40)  # with nothing in it
    assert LogReader(path).last_lines(100) == "\0" * 10
