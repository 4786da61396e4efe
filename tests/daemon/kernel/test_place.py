"""The folder of a container's connection file: private, of the user, the same for each start."""

from dataclasses import replace
from pathlib import Path

import pytest

from kconnd.core.kernel.events import Launch
from kconnd.core.launch.containers import RUNTIME_FOLDER, Place, see_from_inside
from kconnd.core.profile.model import Profile
from kconnd.daemon.context import World
from kconnd.daemon.kernel.files import RuntimeFiles
from kconnd.daemon.kernel.place import PRIVATE_PREFIX, choose_place
from kconnd.daemon.kernel.wiring import Previous, prepare_wire
from kconnd.errors import StartFailedError, UsageError
from kconnd.system.launch_files import LaunchFiles, make_plan, read_launch_files
from tests.daemon.kernel.fakes import make_world

FIRST = Launch(1, new_key=True, new_ports=True)


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def profile(*argv: str, **keys: object) -> Profile:
    return Profile.model_validate(
        {"name": "lab", "argv": (*argv, "/opt/python", "{connection_file}"), **keys}
    )


async def place_files(world: World, profile: Profile) -> LaunchFiles:
    files = await read_launch_files(world, profile)
    return replace(files, place=await choose_place(world, profile, files))


async def test_a_kernel_without_a_container_has_the_runtime_folder(world: World) -> None:
    assert (await place_files(world, profile())).place == RUNTIME_FOLDER
    warm = profile("/opt/bwrap", "--bind", "/home/x/y", "/x", warm=1)
    assert (await place_files(world, warm)).place == RUNTIME_FOLDER


async def test_the_folder_that_a_command_mounts_gets_a_private_one(
    world: World, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    boxed = profile("/opt/bwrap", "--bind", str(shared), "/in", "--unshare-net")
    files = await place_files(world, boxed)
    assert files.place == (await place_files(world, boxed)).place
    (private,) = shared.iterdir()
    assert private.stat().st_mode & 0o777 == 0o700
    assert files.place == Place(str(private), f"/in/{private.name}", "ipc")
    wire = await prepare_wire(world, "lab", boxed, files, FIRST)
    assert wire.connection.ip == f"{private}/lab"
    seen = see_from_inside(files.place, wire.connection)
    assert seen.ip == f"/in/{private.name}/lab"
    again = await prepare_wire(world, "lab", boxed, files, FIRST, Previous(wire.connection))
    assert again.connection.ip == wire.connection.ip
    plan = make_plan(world, world.files("lab"), 1, boxed, files, wire.connection)
    assert plan.argv[-1] == f"/in/{private.name}/kernel-lab.json"
    assert plan.env["KCONND_CONNECTION_FILE"] == plan.argv[-1]

    runtime = RuntimeFiles("lab", world)
    runtime.write_own_copy(wire.connection, files.place)
    copy = private / "kernel-lab.json"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert runtime.own_copy() == copy
    assert runtime.find_rewriting(wire.connection) == (False, "")
    runtime.clean_up(wire.connection)
    assert not private.exists()


async def test_a_restart_leaves_a_transport_that_the_container_does_not_permit(
    world: World, tmp_path: Path
) -> None:
    plain = profile("/opt/bwrap", "--dev-bind", "/", "/")
    first = await prepare_wire(world, "lab", plain, await place_files(world, plain), FIRST)
    assert first.connection.transport == "tcp"
    isolated = profile("/opt/bwrap", "--bind", str(tmp_path), str(tmp_path), "--unshare-net")
    files = await place_files(world, isolated)
    assert files.place == Place(transport="ipc"), "the kernel sees the runtime folder"
    previous = Previous(first.connection)
    second = await prepare_wire(world, "lab", isolated, files, FIRST, previous)
    assert (second.connection.transport, second.trial) == ("ipc", None)


async def test_a_copy_elsewhere_is_not_removed(world: World, tmp_path: Path) -> None:
    runtime, other = RuntimeFiles("lab", world), tmp_path / "kernel-lab.json"
    other.touch()
    Path(runtime.paths.own_copy).symlink_to(other)  # noqa: ASYNC240  # short
    runtime.clean_up(None)
    assert other.exists()


@pytest.mark.parametrize("mode", [0o777, 0o720])
async def test_a_folder_in_which_others_may_write_is_refused(
    world: World, tmp_path: Path, mode: int
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    with pytest.raises(StartFailedError, match="other users may write to it"):
        await place_files(world, profile(connection_folder=str(shared)))
    shared.chmod(0o1777)  # as that of /tmp, where nobody can replace the folder of another user
    files = await place_files(world, profile(connection_folder=f"{shared}:/in"))
    assert files.place.inside.startswith(f"/in/{PRIVATE_PREFIX}")


async def test_a_folder_that_cannot_be_used_is_named(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartFailedError, match=f"using {tmp_path}/file for its connection file"):
        await place_files(world, profile(connection_folder=str(tmp_path / "file")))


async def test_a_path_that_is_too_long_inside_is_refused(world: World, tmp_path: Path) -> None:
    long = profile(connection_folder=f"{tmp_path}:/{'x' * 100}", transport="ipc")
    with pytest.raises(UsageError, match="is too long a path for Unix sockets") as caught:
        await prepare_wire(world, "lab", long, await place_files(world, long), FIRST)
    assert "connection_folder" in caught.value.hint
