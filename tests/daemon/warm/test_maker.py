"""How warm kernels are started: exits and trials before the first answer, and outdated kernels."""

import asyncio
import errno
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kconnd.core.launch.capabilities import CURVE, SECONDS_TO_START, UNIX_SOCKETS
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.plan import LaunchPlan
from kconnd.core.profile.model import Profile
from kconnd.daemon.context import World
from kconnd.daemon.warm.maker import Maker
from kconnd.daemon.warm.pool import Pool
from kconnd.errors import StartFailedError
from kconnd.launchers.base import ExitStatus, Handle
from kconnd.system.launch_files import read_launch_files
from tests.daemon.kernel.fakes import FakeChannels, fail_after_grant, make_world
from tests.launchers.fake import FakeLauncher


@dataclass
class Scene:
    """A world whose kernels report an unknown language, and answer on tcp alone if so told."""

    # A kernel that does not encrypt ignores its keys, so it does not answer a client that has keys.

    folder: Path
    only_tcp: bool = False
    language: str = "fake"

    def world(self, **options: Any) -> World:
        # The files that the fixture has just made count as older than each start.
        parts = {"connect": self.connect, "wall_clock": lambda: time.time() + 60, **options}
        return make_world(self.folder, **parts)

    def connect(self, connection: ConnectionInfo) -> FakeChannels:
        may_answer = asyncio.Event()
        is_plain = connection.transport == "tcp" and connection.curve is None
        if is_plain or not self.only_tcp:
            may_answer.set()
        return FakeChannels(connection, may_answer, language=self.language)

    def profile(self, **fields: Any) -> Profile:
        env = {"HOME": str(self.folder), "PYTHONPATH": str(self.folder / "packages")}
        argv = ("/bin/sh", "{connection_file}")
        plain = {"name": "lab", "argv": argv, "cwd": str(self.folder), "env": env, "warm": 1}
        return Profile(**{**plain, **fields})


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    (tmp_path / "packages").mkdir()
    return Scene(tmp_path)


async def test_an_exit_before_the_first_answer_ends_the_start(scene: Scene) -> None:
    scene.only_tcp = True
    maker = Maker(scene.world())
    profile = scene.profile(argv=("/bin/sh", "{connection_file}", "exit 3"), transport="ipc")
    with pytest.raises(StartFailedError, match="it exited with code 3"):
        await asyncio.wait_for(maker.make(profile), 5)
    await maker.end()
    assert not list((scene.folder / "s" / "warm").iterdir())


async def test_a_kernel_that_cannot_be_connected_to_is_ended(scene: Scene) -> None:
    def connect(_: ConnectionInfo) -> FakeChannels:
        raise OSError(errno.EMFILE, "no descriptor is left")

    maker = Maker(scene.world(connect=connect))
    with pytest.raises(OSError, match="no descriptor"):
        await maker.make(scene.profile(transport="ipc"))
    await maker.end()
    assert not list((scene.folder / "s" / "warm").iterdir())


async def test_the_ports_of_a_kernel_that_cannot_be_planned_are_released(scene: Scene) -> None:
    world = fail_after_grant(scene.world())
    profile = scene.profile(transport="tcp")
    with pytest.raises(StartFailedError, match="a fault after the grant"):
        await Maker(world).plan(profile)
    assert world.ledger.granted() == {}


class ExitsOnPrivateWires(FakeLauncher):
    """Kernels that support plain tcp alone."""

    async def launch(self, plan: LaunchPlan) -> Handle:
        handle = await super().launch(plan)
        content = json.loads(Path(plan.files.connection_file).read_bytes())  # noqa: ASYNC240  # small
        if content["transport"] == "ipc" or "curve_publickey" in content:
            self.end(len(self.launched), ExitStatus(code=1))
        return handle


async def test_all_wires_are_tried_and_a_failed_trial_falls_back_to_tcp(scene: Scene) -> None:
    scene.only_tcp, launcher = True, ExitsOnPrivateWires()
    world = scene.world(launcher=launcher)
    software = (await read_launch_files(world, scene.profile())).software
    kernel = await Maker(world).make(scene.profile())
    connection = kernel.wire.connection
    assert (connection.transport, connection.curve) == ("tcp", None)
    facts = world.capabilities.facts(software)
    assert (facts[UNIX_SOCKETS].value, facts[CURVE].value) == (False, False)
    assert len(launcher.launched) == 5, "to measure; both wires, each with its fallback"
    await Maker(world).make(scene.profile())
    assert len(launcher.launched) == 6, "the next one tries nothing"


async def test_a_kernel_of_unknown_software_is_private_at_once(scene: Scene) -> None:
    launcher = FakeLauncher()
    world = scene.world(launcher=launcher)
    maker = Maker(world)
    kernel = await maker.make(scene.profile())
    software = (await read_launch_files(world, scene.profile())).software
    assert kernel.wire.connection.transport == "ipc"
    assert world.capabilities.facts(software)[SECONDS_TO_START].value < 5
    await maker.end()
    assert [future.done() for future in launcher._exits.values()] == [True, False]


async def test_a_file_that_changes_during_the_start_ends_the_start(scene: Scene) -> None:
    maker = Maker(scene.world(wall_clock=lambda: time.time() - 60))
    with pytest.raises(StartFailedError, match="packages was changed while it started"):
        await maker.make(scene.profile(transport="ipc"))
    await maker.end()


@pytest.mark.parametrize(("shell", "is_outdated"), [("login", True), ("none", False)])
async def test_a_python_kernel_of_a_login_shell_is_outdated_by_the_files_of_the_shell(
    scene: Scene,
    shell: str,
    is_outdated: bool,  # noqa: FBT001  # pytest's way
) -> None:
    scene.language = "python"
    world, profile = scene.world(), scene.profile(transport="ipc", shell=shell)
    pool = Pool(world, lambda: 8 << 30)
    await pool._look([profile], lambda: False)
    (scene.folder / ".bashrc").touch()
    taken = await pool.take("lab", 1, profile, await read_launch_files(world, profile))
    assert (taken is None) is is_outdated
    await pool.end()


@pytest.mark.parametrize("change", ["none", "packages/new.dist-info", ".Rprofile", ".bashrc"])
async def test_a_kernel_that_lists_no_files_is_outdated_by(scene: Scene, change: str) -> None:
    world, profile = scene.world(), scene.profile(transport="ipc")
    pool = Pool(world, lambda: 8 << 30)
    await pool._look([profile], lambda: False)
    assert pool.ready == 1
    if change != "none":
        (scene.folder / change).touch()
    files = await read_launch_files(world, profile)
    taken = await pool.take("lab", 1, profile, files)
    assert (taken is None) is (change != "none")
    await pool.end()
