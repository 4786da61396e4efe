"""How warm kernels are started: exits and trials before the first answer, and outdated kernels."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kconnd.core.launch.capabilities import SECONDS_TO_START, UNIX_SOCKETS, Fact, FactSource
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.plan import LaunchPlan
from kconnd.core.profile.model import Profile
from kconnd.daemon.context import World
from kconnd.daemon.kernel.prepare import read_launch_files
from kconnd.daemon.warm.maker import Maker
from kconnd.daemon.warm.pool import Pool
from kconnd.errors import StartFailedError
from kconnd.launchers.base import ExitStatus, Handle
from tests.daemon.kernel.fakes import FakeChannels, make_world
from tests.launchers.fake import FakeLauncher


@dataclass
class Scene:
    """A world whose kernels report an unknown language, and answer on tcp alone if so told."""

    folder: Path
    only_tcp: bool = False
    language: str = "fake"

    def world(self, **options: Any) -> World:
        # The files that the fixture has just made count as older than each start.
        parts = {"connect": self.connect, "wall_clock": lambda: time.time() + 60, **options}
        return make_world(self.folder, **parts)

    def connect(self, connection: ConnectionInfo) -> FakeChannels:
        may_answer = asyncio.Event()
        if connection.transport == "tcp" or not self.only_tcp:
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


class ExitsOnUnixSockets(FakeLauncher):
    """Kernels that cannot use Unix sockets."""

    async def launch(self, plan: LaunchPlan) -> Handle:
        handle = await super().launch(plan)
        if len(self.launched) == 1:
            self.end(1, ExitStatus(code=1))
        return handle


async def test_a_wire_is_tried_and_a_failed_trial_falls_back_to_tcp(scene: Scene) -> None:
    scene.only_tcp = True
    world = scene.world(launcher=ExitsOnUnixSockets())
    software = (await read_launch_files(world, scene.profile())).software
    world.capabilities.learn(software, {SECONDS_TO_START: Fact(0.1, FactSource.START, "")})
    kernel = await Maker(world).make(scene.profile())
    assert kernel.wire.connection.transport == "tcp"
    assert world.capabilities.facts(software)[UNIX_SOCKETS].value is False


async def test_a_start_shows_how_long_it_takes(scene: Scene) -> None:
    world = scene.world()
    kernel = await Maker(world).make(scene.profile())
    software = (await read_launch_files(world, scene.profile())).software
    assert kernel.wire.connection.transport == "tcp", "the first start tries nothing"
    assert world.capabilities.facts(software)[SECONDS_TO_START].value < 5


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
