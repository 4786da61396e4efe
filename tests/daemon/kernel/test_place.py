"""The folder of a container's connection file: private, of the user, the same for each start."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from kconnd.core.kernel.events import Launch
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.containers import RUNTIME_FOLDER, Place, see_from_inside
from kconnd.core.launch.kernel_files import IPC_PORTS
from kconnd.core.profile.model import Profile
from kconnd.daemon.context import World
from kconnd.daemon.kernel.files import RuntimeFiles
from kconnd.daemon.kernel.place import PRIVATE_PREFIX, choose_place, find_fault
from kconnd.daemon.kernel.wiring import Previous, prepare_wire
from kconnd.errors import StartFailedError, UsageError
from kconnd.system.channels.attach_check import AttachCheck
from kconnd.system.hung_calls import PathSteps
from kconnd.system.launch_files import LaunchFiles, make_plan, read_launch_files
from kconnd.system.process.processes import ProcessId
from tests.conftest import wait_until
from tests.daemon.kernel.fakes import make_world

LIMIT_S = 2.0  # in which a thread gets its turn on the busiest machine
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
    await runtime.write_for_launch(wire.connection, files.place)
    copy = private / "kernel-lab.json"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert runtime.own_copy() == copy
    assert runtime.find_rewriting(wire.connection) == (False, "")
    runtime.clean_up(wire.connection)
    await runtime.removed()
    assert not private.exists()


def find_copies(folder: Path) -> list[Path]:
    return [*folder.glob(f"*/{PRIVATE_PREFIX}*/kernel-lab.json")]


async def test_a_restart_in_another_folder_removes_the_earlier_copy(
    world: World, tmp_path: Path
) -> None:
    runtime, places = RuntimeFiles("lab", world), []
    for name in ("first", "second"):
        boxed = profile("/opt/bwrap", "--bind", str(tmp_path / name), "/in")
        places.append((await place_files(world, boxed)).place)
    wire = await prepare_wire(world, "lab", profile(), await place_files(world, profile()), FIRST)
    runtime.write_connection(wire.connection)
    for place in (*places, RUNTIME_FOLDER):
        await runtime.write_for_launch(wire.connection, place)
        expected = Path(place.folder) / "kernel-lab.json" if place.folder else None
        assert runtime.own_copy() == expected
        assert find_copies(tmp_path) == ([expected] if expected else [])
    runtime.write_connection(replace(wire.connection, ip="127.0.0.9"))
    assert runtime.find_rewriting(wire.connection)[0], "the file that the kernel has is compared"


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
    await runtime.removed()
    assert other.exists()


async def test_a_folder_on_a_file_server_that_hangs_holds_up_no_other_request(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxed = profile("/opt/bwrap", "--bind", str(tmp_path), str(tmp_path), "--unshare-net")
    boxed = boxed.model_copy(update={"connection_folder": str(tmp_path / "far")})
    files = await place_files(world, boxed)
    wire = await prepare_wire(world, "lab", boxed, files, FIRST)
    world = replace(world, paths=PathSteps(LIMIT_S, LIMIT_S))
    runtime, gate = RuntimeFiles("lab", world), threading.Event()
    await runtime.write_for_launch(wire.connection, files.place)
    remove = runtime.remove_sockets

    def hang(connection: ConnectionInfo | None) -> None:
        gate.wait()
        remove(connection)

    monkeypatch.setattr(runtime, "remove_sockets", hang)
    try:
        runtime.clean_up(wire.connection)
        assert not runtime.connection_file.exists(), "the rest is removed at once"
        await runtime.removed()
        with pytest.raises(StartFailedError, match=r"far/.* does not answer"):
            await runtime.write_for_launch(wire.connection, files.place)
    finally:
        gate.set()
    await wait_until(lambda: not world.paths.stuck, "the removal to end")
    await runtime.write_for_launch(wire.connection, files.place)
    copy = Path(files.place.folder, "kernel-lab.json")
    assert copy.exists(), "the folder, which the removal took away, is made again"  # noqa: ASYNC240


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


async def test_sockets_on_a_file_server_that_hangs_are_looked_at_in_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, gate = replace(world, paths=PathSteps(0.2, 0.2)), threading.Event()
    connection = ConnectionInfo("ipc", f"/far/{PRIVATE_PREFIX}1/lab", IPC_PORTS, "key")
    reach = AttachCheck(connection, world.runtime_dir / "kernel-lab.json", ProcessId(1, 0))

    def hang() -> str:
        gate.wait()
        return ""

    monkeypatch.setattr(reach, "find_fault", hang)
    try:
        assert "/far/.kconnd-1 for its connection file: the disk" in await find_fault(world, reach)
    finally:
        gate.set()
    await wait_until(lambda: not world.paths.stuck, "the look to end")
