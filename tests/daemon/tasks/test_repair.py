"""When there may be something to mend. That it is mended is in `tests.end_to_end.test_survival`."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kconnd.daemon.api import commands
from kconnd.daemon.tasks import repair
from kconnd.daemon.tasks.repair import (
    STAMP_RESOLUTION_S,
    Settled,
    make_folders,
    read_stamps,
    repair_files,
    repair_for_ever,
)
from tests.conftest import wait_until
from tests.daemon.fakes import house_in


class Kernel:
    """What mending knows of an actor."""

    def __init__(self, ip: str, transport: str = "ipc") -> None:
        self.connection = SimpleNamespace(ip=ip, transport=transport)
        self.process = self
        self.there: set[str] = set()

    def mend(self, there: set[str]) -> None:
        self.there = there


class Runtime:
    """A runtime folder with something in it, a minute ago; and another of former times."""

    def __init__(self, folder: Path) -> None:
        self.now, self.former = folder / "r", folder / "f"
        make_folders(self.now)
        make_folders(self.former)
        for file in (self.now / "kernel.json", self.now / "ipc/a-1", self.former / "ipc/b-1"):
            file.touch()
        self.bus = SimpleNamespace(count=7)
        self.actors = [
            Kernel(f"{self.now}/ipc/a"),
            Kernel(f"{self.former}/ipc/b"),
            Kernel("127.0.0.1", "tcp"),
        ]
        world = SimpleNamespace(runtime_dir=self.now, bus=self.bus)
        self.kernels: Any = SimpleNamespace(world=world, all=lambda: self.actors)

    def read_stamps(self) -> object:
        return read_stamps(self.kernels)


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path)


def clean_up(folder: Path, name: str) -> None:
    """Remove a file as systemd-tmpfiles does, which sets the folder's time back."""
    before = folder.stat()
    (folder / name).unlink()
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert folder.stat().st_mtime_ns == before.st_mtime_ns


def swap(folder: Path) -> None:
    folder.rename(folder.with_name("away"))
    make_folders(folder.parent)


CHANGES: dict[str, Callable[[Runtime], object]] = {
    "a connection file": lambda runtime: (runtime.now / "kernel.json").unlink(),
    "a socket": lambda runtime: (runtime.now / "ipc/a-1").unlink(),
    "one of former times": lambda runtime: (runtime.former / "ipc/b-1").unlink(),
    "another name": lambda runtime: (runtime.now / "kernel.json").rename(runtime.now / "x"),
    "a cleaner": lambda runtime: clean_up(runtime.now, "kernel.json"),
    "another folder": lambda runtime: swap(runtime.now / "ipc"),
    "no folder": lambda runtime: (runtime.former / "ipc").rename(runtime.former / "away"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(runtime: Runtime, change: str) -> None:
    before = runtime.read_stamps()
    CHANGES[change](runtime)
    assert runtime.read_stamps() != before


def test_what_has_changed_is_mended_until_a_further_change_would_be_seen() -> None:
    settled = Settled()
    for now in (0.0, STAMP_RESOLUTION_S / 2, STAMP_RESOLUTION_S):
        assert not settled.holds("a", now)
        settled.note_repair("a", now)
    assert settled.holds("a", STAMP_RESOLUTION_S)
    assert settled.holds("a", 1000.0)
    assert not settled.holds("b", 1000.0)


def test_what_was_not_mended_does_not_rest() -> None:
    """As on a full disk, or where somebody has cleaned up since the look."""
    settled = Settled()
    assert not settled.holds("a", 0.0)
    assert not settled.holds("a", 1000.0)
    settled.note_repair("b", 1000.0)
    assert not settled.holds("a", 1001.0)


def test_where_nothing_happens_nothing_is_looked_at(runtime: Runtime) -> None:
    before = runtime.read_stamps()
    (runtime.now / "kernel.json").write_text("{}", encoding="utf-8")
    (runtime.now / "live/more").touch()
    assert runtime.read_stamps() == before


def test_an_event_of_a_kernel_is_a_change(runtime: Runtime) -> None:
    before = runtime.read_stamps()
    runtime.bus.count += 1
    assert runtime.read_stamps() != before


def test_each_kernel_is_told_what_there_is_wherever_it_is(runtime: Runtime) -> None:
    files = {
        *(f"{runtime.now}/{name}" for name in ("kernel.json", "ipc", "live", "ipc/a-1")),
        f"{runtime.former}/ipc/b-1",
    }
    repair_files(runtime.kernels)
    assert [actor.there for actor in runtime.actors] == [files] * 3
    (runtime.former / "ipc").rename(runtime.former / "away")
    repair_files(runtime.kernels)
    assert runtime.actors[0].there == files - {f"{runtime.former}/ipc/b-1"}


class Site:
    """A socket server that counts how often its socket is restored."""

    def __init__(self) -> None:
        self.restored = 0
        self.error: OSError | None = None

    def restore_socket(self) -> None:
        self.restored += 1
        if self.error is not None:
            raise self.error


async def test_what_was_deleted_is_restored_periodically(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(repair, "REPAIR_INTERVAL_S", 0.01)
    async with house_in(tmp_path) as house:
        await commands.start(house.request("lab"))
        actor, site = house.kernels.find("lab"), Site()
        file = Path(actor.process.files.connection_file)
        actor.unrecorded = "no space left on device"
        file.unlink()  # noqa: ASYNC240  # short
        live = house.world.runtime_dir / "live"
        live.rmdir()
        site.error = OSError("a fault")
        running: Any = site
        task = asyncio.create_task(repair_for_ever(house.kernels, running))
        await wait_until(lambda: site.restored > 2, "some attempts")
        assert caplog.text.count("repairing the runtime folder: a fault") == 1
        site.error = None
        await wait_until(file.exists, "the connection file", limit=10.0)
        await wait_until(live.is_dir, "the folder", limit=10.0)
        assert not actor.unrecorded
        task.cancel()
