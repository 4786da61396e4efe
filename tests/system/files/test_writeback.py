"""What was saved comes to the disk, whatever happens on the way."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kconnd.system.files.writeback import WritebackQueue
from tests.conftest import wait_for


class Written:
    """Notes what is written, and fails as it is told to."""

    def __init__(self) -> None:
        self.paths: list[Path] = []
        self.trouble: dict[Path, Exception] = {}
        self.may_go = threading.Event()
        self.may_go.set()

    def __call__(self, path: Path) -> None:
        assert self.may_go.wait(30)
        if path in self.trouble:
            raise self.trouble[path]
        self.paths.append(path)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    for name in ("WRITE_DELAY_S", "RETRY_DELAY_S"):
        monkeypatch.setattr(f"kconnd.system.files.writeback.{name}", 0.01)
    return Written()


@pytest.fixture
def disk(written: Written) -> Iterator[WritebackQueue]:
    found = WritebackQueue(written)
    yield found
    written.trouble.clear()
    found.close()


def versions(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).touch()
    return [folder / name for name in names]


def left(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def test_what_is_on_disk_stays_until_the_new_one_is_and_nothing_in_between(
    disk: WritebackQueue, written: Written, tmp_path: Path
) -> None:
    written.may_go.clear()
    path, *before = versions(tmp_path, "it", "on_disk", "between", "later")
    for one in before:
        disk.schedule(path, one)
    assert left(tmp_path) == ["it", "on_disk"]
    written.may_go.set()
    wait_for(lambda: left(tmp_path) == ["it"], "it to be on disk")
    assert written.paths in ([path], [path, path])


def test_what_cannot_be_written_stays_due_and_is_told_of_once(
    disk: WritebackQueue, written: Written, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, other, *before = versions(tmp_path, "it", "other", "on_disk", "a", "b", "c")
    written.trouble = {path: OSError(5, "Input/output error")}
    for one in before:
        disk.schedule(path, one)
        disk.schedule(other, None)
        wait_for(lambda: other in written.paths, "the other")
        written.paths.clear()
    assert left(tmp_path) == ["it", "on_disk", "other"]
    assert caplog.text.count(f"writing {path} to disk: [Errno 5] Input/output error") == 1
    written.trouble.clear()
    wait_for(lambda: path in written.paths, "it to be tried again")
    wait_for(lambda: left(tmp_path) == ["it", "other"], "it to be on disk")


def test_a_fault_keeps_nothing_else_from_the_disk(
    disk: WritebackQueue, written: Written, tmp_path: Path
) -> None:
    one, two = versions(tmp_path, "one", "two")
    written.trouble = {one: ValueError("a fault")}
    disk.schedule(one, None)
    disk.schedule(two, None)
    wait_for(lambda: two in written.paths, "the other")


def test_what_was_never_there_before_does_not_wait(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kconnd.system.files.writeback.WRITE_DELAY_S", 3600)
    disk = WritebackQueue(written)
    path, before = versions(tmp_path, "it", "before")
    disk.schedule(path, None)
    wait_for(lambda: path in written.paths, "it to be on disk")
    disk.schedule(path, before)
    disk.close()  # nor does the end
    assert (written.paths, left(tmp_path)) == ([path, path], ["it"])


def test_without_a_thread_the_next_one_or_the_end_does_it(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, refused = ThreadPoolExecutor.submit, [1, 2]

    def short_of_threads(self: ThreadPoolExecutor, *words: object) -> object:
        if refused and refused.pop():
            raise RuntimeError("can't start new thread")
        return submit(self, *words)  # type: ignore[arg-type]  # whatever it is

    monkeypatch.setattr(ThreadPoolExecutor, "submit", short_of_threads)
    path, other = versions(tmp_path, "it", "other")
    disk = WritebackQueue(written)
    disk.schedule(path, None)
    disk.close()
    assert written.paths == [path]
    disk = WritebackQueue(written)
    disk.schedule(path, None)
    assert written.paths == [path]
    disk.schedule(other, None)
    wait_for(lambda: set(written.paths[1:]) == {path, other}, "both to be on disk")
    disk.close()
