"""The pool of warm kernels where a real one cannot be brought to: no memory, a start under way."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from kconnd.core.events import Step
from kconnd.core.profile import Profile
from kconnd.daemon.warm import Pool
from kconnd.launchers.base import Exit, Handle
from kconnd.system.processes import ProcessId
from tests.conftest import wait_until
from tests.daemon.test_actor import Stage
from tests.launchers.fake import FakeLauncher

LAB = Profile(name="lab", python="/usr/bin/python3", transport="ipc", warm=2)


@pytest.mark.parametrize(("free", "count"), [(0, 0), (300 << 20, 0), (8 << 30, 2)])
async def test_none_is_made_that_memory_does_not_allow(
    tmp_path: Path, free: int, count: int
) -> None:
    stage = Stage(tmp_path)
    stage.may_answer.set()
    looked = 0

    def available() -> int:
        nonlocal looked
        looked += 1
        return free

    pool = Pool(stage.world, available)
    keeping = asyncio.create_task(pool.keep_for_ever(lambda: [LAB], lambda: False))
    await wait_until(lambda: looked >= 2, "the pool to look at the memory")
    await wait_until(lambda: pool.ready == count, f"{count} kernels")
    assert len(stage.launcher.launched) == count
    keeping.cancel()
    await pool.end()


async def test_nobody_who_waits_for_a_start_is_kept_waiting_by_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.may_answer.set()
    waiting, asked = True, 0

    def somebody_waits() -> bool:
        nonlocal asked
        asked += 1
        return waiting

    pool = Pool(stage.world, lambda: 8 << 30)
    keeping = asyncio.create_task(pool.keep_for_ever(lambda: [LAB], somebody_waits))
    await wait_until(lambda: asked >= 2, "the pool to ask")
    assert not stage.launcher.launched
    waiting = False
    await wait_until(lambda: pool.ready == 2, "both")
    keeping.cancel()
    await pool.end()


async def test_one_that_fails_is_tried_again_later_and_later(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    pool = Pool(stage.world, lambda: 8 << 30)
    bad = Profile(name="bad", argv=("no-such-command", "{connection_file}"), warm=1)
    keeping = asyncio.create_task(pool.keep_for_ever(lambda: [bad], lambda: False))
    await wait_until(lambda: pool._failures.get("bad"), "a failure")
    assert pool._retry["bad"] > stage.world.clock() + 1
    assert pool.ready == 0
    assert not list((tmp_path / "s" / "warm").glob("*"))
    keeping.cancel()
    await pool.end()


class Stuck(FakeLauncher):
    """Finds what an earlier daemon left, which does not end."""

    async def find(self, facts: str, _exit_file: str, _lock: str) -> Handle | None:
        return Handle("fake", 1, self.boot_id, ProcessId(1, 1), ProcessId(1, 1), "", facts)

    async def adopt(self, _handle: Handle) -> str:
        return "its word"

    async def wait(self, _handle: Handle) -> Exit:
        await asyncio.Event().wait()
        return Exit()

    async def stop(self, handle: Handle, step: Step) -> None:
        assert step is Step.KILL
        self.killed = handle.lock


async def test_a_process_that_does_not_end_keeps_no_daemon_from_starting(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    launcher = Stuck()
    facts = stage.runtime / "live" / "lab~12345678.shim.json"
    facts.write_text("{}")
    pool = Pool(replace(stage.world, launcher=launcher), lambda: 8 << 30)
    async with asyncio.timeout(5):
        await pool.sweep()
    assert launcher.killed == str(facts)
    assert facts.exists(), "the next daemon finds it again"
