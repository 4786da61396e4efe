"""One launch: its reports and their order, its slot, and the ways in which it fails."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kconnd.core.kernel.events import Answered, Launch, Launched, LaunchFailed
from kconnd.core.kernel.learned import Learned
from kconnd.core.launch.plan import LaunchPlan
from kconnd.core.profile.model import Profile
from kconnd.daemon.context import World
from kconnd.daemon.kernel.launching import Launching, ProcessMet
from kconnd.daemon.kernel.prepared import WarmKernel
from kconnd.daemon.kernel.process import Process
from kconnd.daemon.kernel.wiring import prepare_wire
from kconnd.errors import RefusedError, StartFailedError, StateFileError
from kconnd.launchers.base import Handle
from kconnd.system.launch_files import LaunchFiles, make_plan, read_launch_files
from tests.conftest import wait_until
from tests.daemon.kernel.fakes import Reports, make_world
from tests.launchers.fake import FakeLauncher

LAB = Profile(name="lab", argv=("/bin/kernel", "{connection_file}"), transport="ipc")
FIRST = Launch(1, new_key=True, new_ports=True)


def build(world: World, pool: Any = None) -> tuple[Launching, Process, Reports]:
    reports = Reports()
    process = Process("lab", world, reports.append)
    return Launching(process, world, reports.append, pool), process, reports


async def test_a_launch_reports_each_step_in_order(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    launching, process, reports = build(world)
    launching.begin(FIRST, LAB)
    await wait_until(lambda: reports.of(Answered), "the answer")
    prepared, handled, launched, answered, *_ = [
        report for report in reports if not (isinstance(report, Learned) and _is_late(report))
    ]
    assert prepared.connection == process.connection == process.runtime.read_connection()
    assert prepared.facts.started_at == 1000.0
    assert handled.handle["generation"] == 1
    assert (launched, answered) == (Launched(1), Answered(1))
    assert launching.trouble is None
    process.detach()


def _is_late(report: Learned) -> bool:
    """Return whether news is of the kernel's own answers."""
    return report.habits is not None or (
        report.facts is not None and report.facts.ready_after is not None
    )


async def test_a_launch_holds_its_slot_until_the_kernel_has_answered(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    launching, process, reports = build(replace(world, connect=_silent(world)))
    launching.begin(FIRST, LAB)
    await wait_until(lambda: reports.of(Launched), "the launch")
    assert world.slots.locked()
    process.settled.set()
    async with asyncio.timeout(10):
        await world.slots.acquire()
    process.detach()


def _silent(world: World) -> Any:
    """Connect to a kernel that never answers."""

    def connect(connection: Any) -> Any:
        channels: Any = world.connect(connection)
        channels.may_answer = asyncio.Event()
        return channels

    return connect


async def test_a_launch_that_waits_for_its_slot_can_be_withdrawn(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    await world.slots.acquire()
    launching, _, reports = build(world)
    launching.begin(FIRST, LAB)
    await wait_until(lambda: launching._is_waiting, "it to wait")
    launching.withdraw(1)
    assert reports.of(LaunchFailed)[0].generation == 1
    world.slots.release()
    await asyncio.sleep(0)
    launching.withdraw(1)
    assert not world.slots.locked()


@pytest.mark.parametrize(
    ("error", "passing"),
    [(StateFileError("full"), True), (OSError("full"), True), (TimeoutError(), False)],
)
async def test_a_full_disk_is_a_failure_that_passes(
    tmp_path: Path,
    error: Any,
    passing: bool,  # noqa: FBT001  # pytest's way
) -> None:
    launching, _, reports = build(make_world(tmp_path))
    launching.refuse(1, error)
    (failure,) = reports
    assert failure.passing is passing
    assert launching.trouble is not None
    assert launching.trouble.message == failure.reason


async def test_a_program_that_is_missing_fails_the_launch_and_frees_its_slot(
    tmp_path: Path,
) -> None:
    world = make_world(tmp_path)
    launching, process, reports = build(world)
    launching.begin(FIRST, LAB.model_copy(update={"argv": ("no-such-program",)}))
    await wait_until(lambda: reports.of(LaunchFailed), "the failure")
    assert "no-such-program" in reports[-1].reason
    assert process.handle is None
    async with asyncio.timeout(10):
        await world.slots.acquire()


async def test_a_process_that_lives_already_is_reported(tmp_path: Path) -> None:
    launcher = FakeLauncher()
    world = make_world(tmp_path, launcher=launcher)
    launching, process, reports = build(world)
    launcher.there = await launcher.launch(_plan(process))
    launching.begin(FIRST, LAB)
    await wait_until(lambda: reports.of(ProcessMet), "the meeting")
    assert reports[-1].failure.generation == 1


def _plan(process: Process) -> LaunchPlan:
    return LaunchPlan("lab", 1, LAB.argv, {}, "/", process.files)


class FakePool:
    """One warm kernel, or the room that one makes."""

    def __init__(self, world: World, warm: WarmKernel | None = None) -> None:
        self.world, self.warm = world, warm
        self.discarded = ""
        self.fails = False

    def has(self, _profile: Profile) -> bool:
        return self.warm is not None

    async def take(
        self, name: str, generation: int, profile: Profile, files: LaunchFiles
    ) -> tuple[WarmKernel, LaunchPlan] | None:
        if self.warm is None:
            return None
        connection = self.warm.wire.connection
        paths = self.world.files(name)
        plan = make_plan(self.world, paths, generation, profile, files, connection)
        return self.warm, plan

    def hand_over(self, warm: WarmKernel, plan: LaunchPlan) -> Handle:
        if self.fails:
            raise OSError("no space left")
        return replace(warm.handle, generation=plan.generation)

    def discard(self, _warm: WarmKernel, why: str) -> None:
        self.discarded = why

    async def launch_with_room(self, plan: LaunchPlan, _refusal: StartFailedError) -> Handle:
        return await FakeLauncher.launch(self.world.launcher, plan)  # type: ignore[arg-type]  # a fake


async def warm_kernel(world: World, process: Process) -> WarmKernel:
    files = await read_launch_files(world, LAB)
    wire = await prepare_wire(world, "lab", LAB, files, FIRST)
    handle = await world.launcher.launch(_plan(process))
    answer: Any = {"language_info": {"name": "warm"}}
    signatures: Any = None  # nothing of a launch reads them
    return WarmKernel(
        _plan(process), handle, wire, world.connect(wire.connection), answer, signatures
    )


async def test_a_warm_kernel_needs_neither_a_slot_nor_a_launch(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    await world.slots.acquire()
    pool = FakePool(world)
    launching, process, reports = build(world, pool)
    pool.warm = await warm_kernel(world, process)
    launching.begin(Launch(4, new_key=True, new_ports=True), LAB)
    await wait_until(lambda: reports.of(Answered), "the answer")
    assert reports.of(Answered) == [Answered(4)]
    assert process.runtime.read_connection() == pool.warm.wire.connection
    assert len(world.launcher.launched) == 1  # type: ignore[attr-defined]  # a fake
    process.detach()


async def test_a_warm_kernel_whose_hand_over_fails_is_terminated(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    pool = FakePool(world)
    pool.fails = True
    launching, process, reports = build(world, pool)
    pool.warm = await warm_kernel(world, process)
    launching.begin(FIRST, LAB)
    await wait_until(lambda: reports.of(LaunchFailed), "the failure")
    assert pool.discarded == "its hand-over failed"
    assert reports[-1].passing


async def test_a_launch_that_a_quota_refuses_asks_for_room(tmp_path: Path) -> None:
    class Quota(FakeLauncher):
        async def launch(self, plan: LaunchPlan) -> Handle:
            raise StartFailedError(f"launching {plan.name}") from RefusedError("1 of 1")

    world = make_world(tmp_path, launcher=Quota())
    launching, process, reports = build(world, FakePool(world))
    launching.begin(FIRST, LAB)
    await wait_until(lambda: reports.of(Launched), "the launch")
    process.detach()
