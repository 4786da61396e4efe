"""Folders in which changes are told of, with real ones."""

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from kconnd.system.files.watcher import FolderWatcher

MOST_TOLD = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))
LIMIT = 10.0  # seconds in which what is awaited comes
MOMENT = 0.05  # seconds in which nothing does


def is_noted(name: str) -> bool:
    return name.endswith(".yaml")


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[FolderWatcher]:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "old.yaml").touch()
    with FolderWatcher([tmp_path / "here", tmp_path / "later"], is_noted) as folders:
        assert folders.refresh()
        yield folders


CHANGES: dict[str, Callable[[Path], object]] = {
    "written": lambda here: (here / "old.yaml").write_text("x"),
    "made": lambda here: (here / "new.yaml").touch(),
    "removed": lambda here: (here / "old.yaml").unlink(),
    "moved in": lambda here: (here.parent / "more").rename(here / "more.yaml"),
    "moved out": lambda here: (here / "old.yaml").rename(here.parent / "old.yaml"),
    "renamed": lambda here: (here / "old.yaml").rename(here / "old.txt"),
    "closed to others": lambda here: (here / "old.yaml").chmod(0o600),
    "a link": lambda here: (here / "link.yaml").symlink_to("/dev/null"),
    "the folder's mode": lambda here: here.chmod(0o700),
    "another name": lambda here: os.link(here / "old.yaml", here / "other.yaml"),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_each_change_is_told_of_once(
    watched: FolderWatcher, tmp_path: Path, change: str
) -> None:
    (tmp_path / "more").touch()
    CHANGES[change](tmp_path / "here")
    assert await watched.wait_for_change(LIMIT)
    assert not await watched.wait_for_change(MOMENT)


async def test_a_change_calls_the_given_function_before_the_task_that_waits(tmp_path: Path) -> None:
    calls: list[str] = []
    with FolderWatcher([tmp_path], is_noted, lambda: calls.append("changed")) as folders:
        folders.refresh()
        assert (calls, folders.has_changed) == ([], False)
        (tmp_path / "new.txt").touch()
        (tmp_path / "new.yaml").symlink_to("/dev/null")
        assert await folders.wait_for_change(LIMIT)
        assert (calls, folders.has_changed) == (["changed"], False)


async def test_what_does_not_count_is_not_told_of(watched: FolderWatcher, tmp_path: Path) -> None:
    here = tmp_path / "here"
    (here / "more.txt").write_text("x")
    (here / "below").mkdir()
    (here / "below" / "more.yaml").touch()
    assert (here / "old.yaml").read_bytes() == b""
    assert list(here.iterdir())
    assert not await watched.wait_for_change(MOMENT)


async def test_a_folder_that_comes_later_is_watched_once_somebody_looks(
    watched: FolderWatcher, tmp_path: Path
) -> None:
    later = tmp_path / "later"
    assert watched.missing == {later}
    assert not watched.refresh()
    later.mkdir()
    assert watched.refresh()
    assert not watched.missing
    (later / "new.yaml").touch()
    assert await watched.wait_for_change(LIMIT)


@pytest.mark.parametrize("way", ["removed", "moved"])
async def test_a_folder_that_goes_is_a_change_and_may_come_again(
    watched: FolderWatcher, tmp_path: Path, way: str
) -> None:
    here = tmp_path / "here"
    if way == "removed":
        (here / "old.yaml").unlink()
        here.rmdir()
    else:
        here.rename(tmp_path / "away")
    assert await watched.wait_for_change(LIMIT)
    assert here in watched.missing
    here.mkdir()
    assert watched.refresh()
    while await watched.wait_for_change(MOMENT):
        pass
    if way == "moved":
        (tmp_path / "away" / "old.yaml").unlink()
        assert not await watched.wait_for_change(MOMENT), "it is none of those"
    (here / "new.yaml").touch()
    assert await watched.wait_for_change(LIMIT)


@pytest.mark.parametrize("way", ["a link", "above it"])
async def test_a_path_that_leads_elsewhere_is_seen_when_somebody_looks(
    tmp_path: Path, way: str
) -> None:
    here = tmp_path / "above" / "here"
    for folder in (here, here.with_name("first"), here.with_name("other")):
        folder.mkdir(parents=True)
    if way == "a link":  # of which a change is none of what it led to
        here.rmdir()
        here.symlink_to("first")
    with FolderWatcher([here], is_noted) as folders:
        assert folders.refresh()
        assert not folders.refresh()
        if way == "a link":
            here.unlink()
            here.symlink_to("other")
        else:
            here.parent.rename(tmp_path / "away")
            here.mkdir(parents=True)
        assert not await folders.wait_for_change(MOMENT)
        assert folders.refresh()
        assert not folders.refresh()
        (here / "new.yaml").touch()
        assert await folders.wait_for_change(LIMIT)


async def test_a_folder_that_goes_while_too_much_is_told_is_missed(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    with FolderWatcher([here], is_noted) as folders:
        assert folders.refresh()
        for _ in range(MOST_TOLD // 2 + 1):  # two in turn, else they are one
            (here / "one").touch()
            (here / "one").unlink()
        here.rmdir()
        here.mkdir()
        assert await folders.wait_for_change(LIMIT)
        assert folders.refresh()
        while await folders.wait_for_change(MOMENT):
            pass
        (here / "new.yaml").touch()
        assert await folders.wait_for_change(LIMIT)


async def test_two_paths_to_a_folder_are_both_missing_when_it_goes(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").symlink_to("one")
    with FolderWatcher([tmp_path / "one", tmp_path / "two"], is_noted) as folders:
        assert folders.refresh()
        assert not folders.missing
        (tmp_path / "one").rmdir()
        assert await folders.wait_for_change(LIMIT)
        assert folders.missing == {tmp_path / "one", tmp_path / "two"}


async def test_what_cannot_be_watched_is_said_and_keeps_no_other(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    (tmp_path / "sound").mkdir()
    (tmp_path / "file").touch()
    with FolderWatcher([loop, tmp_path / "sound", tmp_path / "file"], is_noted) as folders:
        assert folders.refresh()
        assert folders.trouble == f"watching {loop}: Too many levels of symbolic links"
        assert folders.missing == {loop, tmp_path / "file"}
        loop.unlink()
        assert not folders.refresh()
        assert folders.trouble == ""


async def test_where_nothing_more_can_be_opened_it_is_tried_again(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with FolderWatcher([tmp_path], is_noted) as folders:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            assert not folders.refresh()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert "too many files are open" in folders.trouble
        assert folders.refresh()
        (tmp_path / "new.yaml").touch()
        assert await folders.wait_for_change(LIMIT)


async def test_a_change_during_which_nobody_waits_is_not_lost(
    watched: FolderWatcher, tmp_path: Path
) -> None:
    (tmp_path / "here" / "new.yaml").touch()
    await asyncio.sleep(0)
    assert await watched.wait_for_change(LIMIT)


async def test_nothing_is_open_any_more_at_the_end(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # only how many
    with FolderWatcher([tmp_path], is_noted) as folders:
        folders.refresh()
        assert len(os.listdir("/proc/self/fd")) == before + 1  # noqa: PTH208  # the same
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208  # the same
    assert folders.missing == {tmp_path}
    with folders:
        assert folders.refresh(), "it can begin again"
