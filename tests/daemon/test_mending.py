"""When there may be something to mend. That it is mended is in `tests.end_to_end.test_survival`."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from kconnd.daemon.kernels import Kernels
from kconnd.daemon.mending import MOMENT, make_folders, state

THEN = time.time() - 60


@pytest.fixture
def kernels(tmp_path: Path) -> Kernels:
    """Have folders with something in them that nobody has touched for a minute."""
    make_folders(tmp_path / "r")
    for file in ("kernel.json", "ipc/kernel-1"):
        (tmp_path / "r" / file).touch()
    world = SimpleNamespace(
        runtime_dir=tmp_path / "r", bus=SimpleNamespace(count=7), wall_clock=time.time
    )
    rest(tmp_path)
    return cast("Kernels", SimpleNamespace(world=world))


def rest(tmp_path: Path) -> None:
    for folder in ("r", "r/ipc"):
        os.utime(tmp_path / folder, (0, THEN))


def test_where_nothing_happens_nothing_is_looked_at(kernels: Kernels, tmp_path: Path) -> None:
    before = state(kernels)
    (tmp_path / "r" / "kernel.json").write_text("{}", encoding="utf-8")
    (tmp_path / "r" / "live" / "more").touch()
    assert state(kernels) == before
    assert before is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda r: (r / "kernel.json").unlink(),
        lambda r: (r / "ipc" / "kernel-1").unlink(),
        lambda r: (r / "kernel.json").rename(r / "other.json"),
    ],
)
def test_a_change_is_seen_at_once_and_until_a_further_one_would_be(
    kernels: Kernels, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    before = state(kernels)
    change(tmp_path / "r")
    assert state(kernels) is None
    kernels.world.wall_clock = lambda: time.time() + MOMENT  # type: ignore[misc]  # a stand-in
    assert state(kernels) not in (None, before)


def test_another_folder_and_another_event_are_seen(kernels: Kernels, tmp_path: Path) -> None:
    before = state(kernels)
    kernels.world.bus.count += 1
    after = state(kernels)
    assert after != before
    (tmp_path / "r" / "ipc").rename(tmp_path / "away")
    make_folders(tmp_path / "r")
    rest(tmp_path)
    assert state(kernels) not in (None, after)


def test_a_clock_that_was_set_back_makes_nothing_unseen(kernels: Kernels) -> None:
    kernels.world.wall_clock = lambda: time.time() - 3600  # type: ignore[misc]  # a stand-in
    assert state(kernels) is None
