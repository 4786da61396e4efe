"""The pool of warm kernels where a real one cannot be brought to: no memory, a start under way."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from kconnd.core.kernel.events import StartRequested, Step
from kconnd.core.kernel.lifecycle import State
from kconnd.core.kernel.record import KernelRecord
from kconnd.core.launch.plan import LaunchPlan
from kconnd.core.profile.model import Profile
from kconnd.daemon.kernel.actor import Actor
from kconnd.daemon.warm.pool import Pool
from kconnd.errors import RefusedError, StartFailedError
from kconnd.launchers.base import ExitStatus, Handle
from kconnd.system.launch_files import read_launch_files
from kconnd.system.process.processes import ProcessId
from tests.conftest import wait_until
from tests.daemon.kernel.test_actor import Stage
from tests.launchers.fake import NOBODY, FakeLauncher

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
        nobody = ProcessId(NOBODY, 1)
        return Handle("fake", 1, self.boot_id, nobody, nobody, "", facts)

    async def adopt(self, _handle: Handle) -> str:
        return "its word"

    async def wait(self, _handle: Handle) -> ExitStatus:
        await asyncio.Event().wait()
        return ExitStatus()

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


def live(launcher: FakeLauncher) -> int:
    """Count the kernels that have not ended."""
    return sum(not one.done() for one in launcher._exits.values())


class Quota(FakeLauncher):
    """Allows one kernel, as a front door may."""

    async def launch(self, plan: LaunchPlan) -> Handle:
        if live(self):
            refusal = RefusedError("uid 1 has 1 kernels, and may have 1")
            raise StartFailedError(f"requesting a unit for {plan.name}") from refusal
        return await super().launch(plan)


@pytest.mark.parametrize("ready", [True, False])
async def test_one_that_a_quota_counts_makes_room_for_a_start(tmp_path: Path, ready: bool) -> None:  # noqa: FBT001  # pytest's way
    """Whether it is ready or still being made."""
    stage, launcher = Stage(tmp_path), Quota()
    if ready:
        stage.may_answer.set()
    world = replace(stage.world, launcher=launcher)
    pool = Pool(world, lambda: 8 << 30)
    one = replace_profile(LAB, warm=1)
    actor = Actor(KernelRecord("other"), world, stage.source, pool)
    running = asyncio.create_task(actor.run())
    keeping = asyncio.create_task(
        pool.keep_for_ever(lambda: [one], lambda: actor.kernel.state is not State.STOPPED)
    )
    await wait_until(lambda: live(launcher) == 1 and pool.ready == ready, "one to be there")
    await actor.ask(StartRequested())
    await wait_until(lambda: actor.kernel.state in {State.STARTING, State.RUNNING}, "the start")
    assert (live(launcher), pool.ready) == (1, 0)
    assert launcher.launched[-1].name == "other"
    actor.process.detach()
    for task in (keeping, running):
        task.cancel()
    await pool.end()


def replace_profile(profile: Profile, **changes: object) -> Profile:
    return profile.model_copy(update=changes)


async def test_they_go_when_memory_runs_short(tmp_path: Path) -> None:
    stage, free = Stage(tmp_path), 8 << 30
    stage.may_answer.set()
    pool = Pool(stage.world, lambda: free)
    keeping = asyncio.create_task(pool.keep_for_ever(lambda: [LAB], lambda: False))
    await wait_until(lambda: pool.ready == 2, "both")
    free = 100 << 20
    pool.look_again()
    await wait_until(lambda: pool.ready == 0, "them to be let go")
    await wait_until(lambda: live(stage.launcher) == 0, "them to end")
    keeping.cancel()
    await pool.end()


async def test_what_cannot_be_made_now_is_looked_at_less_and_less(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    pool = Pool(stage.world, lambda: 8 << 30)
    pauses = [await pool._look([LAB], lambda: True) for _ in range(9)]
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10]
    pool.look_again()
    assert await pool._look([LAB], lambda: True) == 0.2
    bad = Profile(name="bad", argv=("no-such-command", "{connection_file}"), warm=1)
    await pool._look([bad], lambda: False)
    assert 1 < await pool._look([bad], lambda: False) <= 2
    assert await pool._look([replace_profile(LAB, warm=0)], lambda: False) == 10


async def test_one_that_is_of_use_ends_the_waiting_after_failures(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.may_answer.set()
    pool = Pool(stage.world, lambda: 8 << 30)
    pool._failed("lab", "it did not answer")
    pool._failed("lab", "it did not answer")
    pool._retry.clear()
    await pool._look([LAB], lambda: False)
    assert pool.ready == 2
    assert await pool.take("lab", 1, LAB, await read_launch_files(stage.world, LAB)) is not None
    pool._failed("lab", "it did not answer")
    assert pool._retry["lab"] <= stage.world.clock() + 2, "as after a first failure"
    await pool.end()


class Slow(FakeLauncher):
    """Has launched, and takes its time to say so."""

    def __init__(self) -> None:
        super().__init__()
        self.may_return = asyncio.Event()

    async def launch(self, plan: LaunchPlan) -> Handle:
        handle = await super().launch(plan)
        Path(plan.files.facts).write_text("{}")  # noqa: ASYNC240  # a small file
        await self.may_return.wait()
        return handle


async def test_a_launch_that_is_under_way_when_the_daemon_ends_is_seen_through(
    tmp_path: Path,
) -> None:
    stage, launcher = Stage(tmp_path), Slow()
    pool = Pool(replace(stage.world, launcher=launcher), lambda: 8 << 30)
    keeping = asyncio.create_task(pool.keep_for_ever(lambda: [LAB], lambda: False))
    await wait_until(lambda: launcher.launched, "a launch to be under way")
    there = Path(launcher.launched[0].files.facts).exists
    await wait_until(there, "its facts")
    keeping.cancel()
    ending = asyncio.create_task(pool.end())
    await asyncio.wait([ending], timeout=0.1)
    assert there(), "nobody forgets what lives"
    launcher.may_return.set()
    await ending
    assert live(launcher) == 0
    assert not there()
    assert not list((tmp_path / "s" / "warm").iterdir())


async def test_the_sockets_of_a_dead_kernel_are_removed_whatever_their_names(
    tmp_path: Path,
) -> None:
    """ILua binds PATH:1 for PATH-1; a probe starts it on Unix sockets."""
    stage = Stage(tmp_path)
    name = "lab~12345678"
    stage.world.store.warm.mkdir()
    (stage.world.store.warm / name).symlink_to(f"{name}.d")
    stray = [stage.runtime / "ipc" / f"{name}{separator}1" for separator in "-:"]
    for path in stray:
        path.touch()
    pool = Pool(stage.world, lambda: 8 << 30)
    await pool.sweep()
    await pool.end()
    assert not any(path.exists() for path in stray)
