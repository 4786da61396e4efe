"""Profiles are read when they have changed, and have been left alone since."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kconnd.daemon.main import keep_going
from kconnd.daemon.tasks import profile_reload
from kconnd.system.files.watcher import FolderWatcher
from kconnd.system.hung_calls import PathSteps
from kconnd.system.profiles.loader import is_profile
from tests.conftest import wait_until

PARTS = ("a", "b", "c", "d", "e")


class Reader:
    """Kernels that read one profile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read: list[str | None] = []
        self.fails = 0
        self.news = asyncio.Event()
        self.up_to_date = asyncio.Event()

    async def reload(self) -> SimpleNamespace:
        if self.fails:
            self.fails -= 1
            raise RuntimeError("a fault")
        self.read.append(self.path.read_text() if self.path.exists() else None)
        self.news.set()
        return SimpleNamespace(added=(), changed=(), removed=())

    async def has_read(self, text: str | None) -> None:
        async with asyncio.timeout(20):
            while self.read[-1:] != [text]:
                self.news.clear()
                await self.news.wait()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_reload, "MISSING_FOLDER_INTERVAL_S", 0.1)


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    """Have one whose folder is not there yet."""
    (tmp_path / "above").mkdir()
    reader = Reader(tmp_path / "above" / "configs" / "lab.yaml")
    folders = FolderWatcher([reader.path.parent], is_profile, reader.up_to_date.clear)
    await profile_reload.watch_folders(folders, PathSteps())
    kernels: Any = reader
    work = partial(profile_reload.pick_up_for_ever, kernels, folders, PathSteps())
    task = asyncio.create_task(keep_going(work, 0.01))
    yield reader
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def write_slowly(path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for part in PARTS:
            file.write(part)
            file.flush()
            await asyncio.sleep(0.1)


def replace(folder: Path) -> None:
    folder.rename(folder.with_name("old"))
    folder.mkdir()


def lead_elsewhere(folder: Path) -> None:
    (folder.parent / "other").mkdir()
    folder.rename(folder.with_name("old"))
    folder.symlink_to("other")


def rename_above(folder: Path) -> None:
    away = folder.parent.with_name("away")
    folder.parent.rename(away)
    folder.mkdir(parents=True)


COMINGS: dict[str, Callable[[Path], object]] = {
    "it comes": Path.touch,
    "another comes": replace,
    "a link leads there": lead_elsewhere,
    "above it a name changes": rename_above,
}


@pytest.mark.parametrize("way", COMINGS)
async def test_of_a_folder_that_comes_nothing_is_read_that_is_still_being_written(
    reader: Reader, way: str
) -> None:
    folder = reader.path.parent
    folder.mkdir()
    if way != "it comes":
        await reader.has_read(None)
    COMINGS[way](folder)
    await write_slowly(reader.path)
    await reader.has_read("abcde")
    assert set(reader.read) <= {None, "abcde"}
    reader.path.unlink()
    await reader.has_read(None)


async def test_profiles_are_up_to_date_again_once_a_change_is_read(reader: Reader) -> None:
    reader.path.parent.mkdir()
    await wait_until(reader.up_to_date.is_set, "the first read")
    reader.path.write_text("x")
    await wait_until(lambda: not reader.up_to_date.is_set(), "the change to be seen")
    await wait_until(reader.up_to_date.is_set, "the change to be read")
    assert reader.read[-1] == "x"


async def test_profiles_that_are_gone_with_their_folder_are_gone(reader: Reader) -> None:
    reader.path.parent.mkdir()
    reader.path.write_text("x")
    await reader.has_read("x")
    reader.path.parent.parent.rename(reader.path.parent.parent.with_name("away"))
    await reader.has_read(None)


async def test_after_faults_nothing_is_lost(
    reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    reader.path.parent.mkdir()
    reader.fails = 3
    reader.path.write_text("x")
    await reader.has_read("x")
    reader.path.write_text("y")
    await reader.has_read("y")
    assert caplog.text.count("a fault in the daemon") == 3


async def test_what_keeps_a_folder_from_being_watched_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    path = tmp_path / "round"
    path.symlink_to(path)
    folders, paths = FolderWatcher([path], is_profile), PathSteps()
    for _ in range(3):
        assert not await profile_reload.watch_folders(folders, paths)
    (said,) = caplog.messages
    assert said.startswith(f"watching {path}: Too many levels of symbolic links; kconnd-ctl reload")
    with folders:
        pass
