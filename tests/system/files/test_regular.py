"""Whatever a path leads to: only a regular file of a bounded size is read, and nothing blocks."""

import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from kconnd.system.files import regular
from kconnd.system.files.regular import NotRegularError, TooLargeError, read_regular
from kconnd.system.process.resource_usage import count_descriptors


def test_a_regular_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    (tmp_path / "link").symlink_to(path)
    assert read_regular(path, 5) == b"12345"
    assert read_regular(str(tmp_path / "link"), 5) == b"12345"
    with pytest.raises(TooLargeError, match="larger than 4 bytes"):
        read_regular(path, 4)


def test_nothing_else_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To open a device can do something by itself, so it is not even tried."""
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)  # the path of a socket is bounded
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    opened: list[object] = []
    fake = SimpleNamespace(**{**vars(os), "open": lambda *given: opened.append(given)})
    monkeypatch.setattr(regular, "os", fake)
    for path, kind in (
        (tmp_path / "pipe", "a named pipe"),
        (tmp_path, "a folder"),
        (Path("/dev/zero"), "a device"),
        (tmp_path / "socket", "a socket"),
    ):
        with pytest.raises(NotRegularError, match=f"it is {kind}, not a regular file"):
            read_regular(path, 1)
    assert opened == []


def test_what_is_exchanged_in_between_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.touch()

    def exchange(what: Path) -> os.stat_result:
        found = what.stat()
        path.unlink()
        os.mkfifo(path)
        return found

    fake = SimpleNamespace(**{**vars(os), "stat": exchange})
    monkeypatch.setattr(regular, "os", fake)
    before = count_descriptors()
    with pytest.raises(NotRegularError, match="a named pipe"):
        read_regular(path, 1)
    assert count_descriptors() == before
