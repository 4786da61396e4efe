"""What a new daemon finds out about a kernel before it supervises it."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from kconnd.core.kernel.events import Adopted, Discovered, Exited, NeverLaunched
from kconnd.core.kernel.lifecycle import Desired, Lifecycle, State
from kconnd.core.kernel.record import Facts, KernelRecord
from kconnd.core.launch.plan import LaunchPlan
from kconnd.core.launch.wire import Trial
from kconnd.core.profile.model import Profile
from kconnd.daemon.context import World
from kconnd.daemon.kernel.adoption import Discovery, discover
from kconnd.daemon.kernel.files import RuntimeFiles
from kconnd.launchers.base import Handle
from tests.daemon.kernel.fakes import a_connection, make_world
from tests.launchers.fake import FakeLauncher

LAB = Profile(name="lab", argv=("/bin/kernel", "{connection_file}"), transport="ipc")
RUNNING = KernelRecord("lab", Lifecycle(State.RUNNING, Desired.UP, generation=2))


@pytest.fixture
def launcher() -> FakeLauncher:
    return FakeLauncher()


@pytest.fixture
async def world(tmp_path: Path, launcher: FakeLauncher) -> World:
    return make_world(tmp_path, launcher=launcher)


async def launch(launcher: FakeLauncher, world: World, generation: int) -> Handle:
    plan = LaunchPlan("lab", generation, LAB.argv, {}, "/", world.files("lab"))
    return await launcher.launch(plan)


async def look(world: World, record: KernelRecord, *, forgotten: bool = False) -> Discovery:
    return await discover(world, record, RuntimeFiles("lab", world), LAB, forgotten=forgotten)


async def test_a_recorded_process_that_lives_is_adopted_as_it_is_recorded(
    world: World, launcher: FakeLauncher, tmp_path: Path
) -> None:
    handle = await launch(launcher, world, 2)
    facts, connection = Facts(kernel_name="ir"), a_connection(tmp_path)
    record = replace(RUNNING, handle=handle.to_json(), facts=facts, connection=connection)
    discovery = await look(world, record)
    assert discovery == Discovery(Adopted(2), handle, "its word", connection, facts)
    assert launcher.looked_at == "", "the record is enough"


async def test_a_launch_that_was_not_saved_to_its_end_is_completed_from_disk(
    world: World, launcher: FakeLauncher, tmp_path: Path
) -> None:
    launcher.there = await launch(launcher, world, 3)
    files, connection = RuntimeFiles("lab", world), a_connection(tmp_path)
    files.write_connection(connection)
    Path(files.paths.facts).touch()  # noqa: ASYNC240  # a small file
    os.utime(files.paths.facts, (5000, 5000))
    stale = replace(a_connection(tmp_path), key="of the process before")
    launching = Lifecycle(State.LAUNCHING, Desired.UP, generation=3)
    record = KernelRecord("lab", launching, connection=stale, facts=Facts(kernel_name="before"))
    discovery = await look(world, record)
    assert (discovery.event, discovery.connection) == (Adopted(3), connection)
    assert (discovery.facts.started_at, discovery.facts.kernel_name) == (5000, "lab")


async def test_a_process_that_no_record_knows_is_found_by_its_shim(
    world: World, launcher: FakeLauncher
) -> None:
    launcher.there = await launch(launcher, world, 7)
    discovery = await look(world, KernelRecord("lab"), forgotten=True)
    assert (discovery.event, discovery.is_new) == (Discovered(7), True)
    assert discovery.connection is None
    assert launcher.looked_at == world.files("lab").lock


@pytest.mark.parametrize(
    ("state", "event"), [(State.LAUNCHING, NeverLaunched), (State.RUNNING, Exited)]
)
async def test_a_kernel_of_which_nothing_is_left_has_no_process(
    world: World, state: State, event: type
) -> None:
    record = replace(RUNNING, lifecycle=replace(RUNNING.lifecycle, state=state))
    discovery = await look(world, record)
    assert (type(discovery.event), discovery.handle) == (event, None)


async def test_a_damaged_handle_counts_as_none(world: World, launcher: FakeLauncher) -> None:
    launcher.there = handle = await launch(launcher, world, 2)
    discovery = await look(world, replace(RUNNING, handle={"launcher": "fake"}))
    assert (discovery.event, discovery.handle) == (Adopted(2), handle)


async def test_a_process_of_an_earlier_boot_is_not_looked_at(
    world: World, launcher: FakeLauncher
) -> None:
    launcher.there = replace(await launch(launcher, world, 2), boot_id="before")
    discovery = await look(world, RUNNING)
    assert discovery.handle is None


@pytest.mark.parametrize(
    ("transport", "before", "proved", "trial"),
    [
        ("auto", None, False, Trial.UNIX_SOCKETS),
        ("auto", "tcp", False, Trial.UNIX_SOCKETS),
        ("auto", "tcp", True, Trial.UNIX_SOCKETS),
        ("auto", "ipc", True, None),  # a restart, which keeps the wire
        ("ipc", None, False, None),
    ],
)
async def test_the_trial_of_a_start_is_found_again(
    world: World,
    launcher: FakeLauncher,
    tmp_path: Path,
    transport: str,
    before: str | None,
    proved: bool,  # noqa: FBT001  # pytest's way
    trial: Trial | None,
) -> None:
    profile = LAB.model_copy(update={"transport": transport, "startup_timeout": 8.0})
    launcher.there = await launch(launcher, world, 3)
    files = RuntimeFiles("lab", world)
    files.write_connection(a_connection(tmp_path))
    launching = Lifecycle(State.LAUNCHING, Desired.UP, generation=3, proved=proved)
    previous = a_connection(tmp_path, before) if before else None
    record = KernelRecord("lab", launching, connection=previous)
    attempt = (await discover(world, record, files, profile, forgotten=False)).attempt
    assert (attempt.trial, attempt.is_adopted) == (trial, True)
    assert attempt.limit_s == (4.0 if trial else 8.0)
    assert attempt.software.key
