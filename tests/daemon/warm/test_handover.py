"""The hand-over of a warm kernel's files, over a fake launcher and a fake kernel."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from kconnd.core.launch.plan import LaunchPlan
from kconnd.core.profile.model import Profile
from kconnd.daemon.context import World
from kconnd.daemon.kernel.prepared import WarmKernel
from kconnd.daemon.warm.handover import confirm_name, hand_over, named_by, send_name
from kconnd.daemon.warm.maker import Maker
from tests.daemon.kernel.fakes import FakeChannels, make_world

LAB = Profile(name="lab", python="/usr/bin/python3", transport="ipc", warm=1)


@pytest.fixture
async def warm(tmp_path: Path) -> tuple[World, WarmKernel]:
    world = make_world(tmp_path)
    kernel = await Maker(world).make(LAB)
    for path in (kernel.plan.files.facts, kernel.plan.files.lock, kernel.plan.files.log):
        Path(path).write_text("of the warm kernel\n")  # noqa: ASYNC240  # small files
    return world, kernel


def plan_for(world: World, kernel: WarmKernel) -> LaunchPlan:
    world.store.folder("lab")
    return replace(kernel.plan, name="lab", generation=7, files=world.files("lab"))


def test_all_files_move_to_the_paths_of_the_name(warm: tuple[World, WarmKernel]) -> None:
    world, kernel = warm
    plan, old = plan_for(world, kernel), world.warm_files(kernel.plan.name)
    assert named_by(old) == ""
    Path(plan.files.exit).write_text("{}")  # of an earlier process
    handle = hand_over(world, kernel, plan)
    assert named_by(old) == "lab"
    assert (handle.generation, handle.launch, handle.lock) == (7, 1, plan.files.lock)
    facts = json.loads(Path(plan.files.facts).read_bytes())
    assert (facts["generation"], facts["kernel"]) == (7, [kernel.handle.kernel.pid, 1])
    assert Path(plan.files.lock).read_bytes().startswith(b'{"protocol": 1')
    assert Path(plan.files.log).read_text() == "of the warm kernel\n"
    gone = (old.facts, old.lock, plan.files.exit)
    assert not [path for path in gone if Path(path).exists()]


def test_a_hand_over_that_fails_leaves_the_facts_of_a_warm_kernel(
    warm: tuple[World, WarmKernel],
) -> None:
    world, kernel = warm
    plan = plan_for(world, kernel)
    Path(plan.files.facts).mkdir()  # so that the last step fails
    with pytest.raises(OSError, match="directory"):
        hand_over(world, kernel, plan)
    assert Path(kernel.plan.files.facts).exists(), "by which the next daemon terminates it"


@pytest.mark.parametrize("replies", [True, False])
async def test_the_first_folder_stays_until_the_kernel_knows_its_name(
    warm: tuple[World, WarmKernel],
    replies: bool,  # noqa: FBT001  # pytest's way
) -> None:
    world, kernel = warm
    hand_over(world, kernel, plan_for(world, kernel))
    folder = Path(world.warm_files(kernel.plan.name).first_folder)

    async def naming() -> bool:
        await asyncio.sleep(0)
        return replies

    await confirm_name(world, naming(), kernel.plan.name, "lab")
    assert _exists(folder) is not replies


def _exists(folder: Path) -> bool:
    return folder.exists()


async def test_a_kernel_that_does_not_run_the_code_does_not_know_its_name(
    warm: tuple[World, WarmKernel],
) -> None:
    world, kernel = warm
    assert isinstance(kernel.channels, FakeChannels)
    assert not await send_name(world, kernel.channels, "python", kernel.plan.name, "lab")


async def test_a_kernel_of_another_language_needs_no_message(
    warm: tuple[World, WarmKernel],
) -> None:
    world, kernel = warm
    assert await send_name(world, kernel.channels, "scheme", kernel.plan.name, "lab")


def test_the_first_path_of_the_connection_file_leads_to_the_file_of_the_name(
    warm: tuple[World, WarmKernel],
) -> None:
    world, kernel = warm
    plan = plan_for(world, kernel)
    hand_over(world, kernel, plan)
    link = Path(kernel.plan.files.connection_file)
    assert link.resolve() == Path(plan.files.connection_file)
    assert not link.readlink().is_absolute(), "the runtime folder may be moved"
    Maker(world).forget(kernel.plan.name)
    assert not link.is_symlink()
