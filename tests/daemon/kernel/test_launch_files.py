"""The look-ups of a launch: descriptors, files and the connection."""

from pathlib import Path

import pytest

from kconnd.core.kernel.events import Launch
from kconnd.core.launch.kernel_files import kernel_files
from kconnd.core.profile.model import Profile
from kconnd.daemon.kernel.wiring import Previous, prepare_wire
from kconnd.errors import StartFailedError
from kconnd.system.launch_files import check_descriptors, make_plan, read_launch_files
from tests.daemon.kernel.fakes import a_connection, make_world

LAB = Profile(name="lab", argv=("/bin/kernel", "{connection_file}"), transport="tcp")
FIRST = Launch(1, new_key=True, new_ports=True)


def test_a_launch_needs_file_descriptors_for_the_other_kernels() -> None:
    check_descriptors((100, 1024))
    with pytest.raises(StartFailedError, match="900 of its 1024 file descriptors"):
        check_descriptors((900, 1024))


async def test_an_env_file_is_read_for_each_launch(tmp_path: Path) -> None:
    world, file = make_world(tmp_path), tmp_path / "lab.env"
    profile = LAB.model_copy(update={"env_file": str(file)})
    with pytest.raises(StartFailedError, match=r"reading its env_file .*lab.env: No such file"):
        await read_launch_files(world, profile)
    file.write_text("A=1\n")
    assert (await read_launch_files(world, profile)).variables == {"A": "1"}


async def test_the_umask_is_that_of_the_profile(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    paths = kernel_files(str(tmp_path / "r"), str(tmp_path / "s"), "lab")
    for text, umask in (("", 0o022), ("077", 0o077)):
        profile = LAB.model_copy(update={"umask": text})
        files = await read_launch_files(world, profile)
        plan = make_plan(world, paths, 1, profile, files, a_connection(tmp_path))
        assert plan.umask == umask


@pytest.mark.parametrize(
    ("command", "same_key", "same_ports"),
    [(Launch(2), True, True), (Launch(2, new_key=True), False, True), (FIRST, False, False)],
)
async def test_a_restart_keeps_key_and_ports_unless_told_otherwise(
    tmp_path: Path,
    command: Launch,
    same_key: bool,  # noqa: FBT001  # pytest's way
    same_ports: bool,  # noqa: FBT001  # pytest's way
) -> None:
    world = make_world(tmp_path)
    files = await read_launch_files(world, LAB)
    first = (await prepare_wire(world, "lab", LAB, files, FIRST)).connection
    world.ledger.grant("other", LAB.ip, *world.ports)
    wire = await prepare_wire(world, "lab", LAB, files, command, Previous(first))
    assert (wire.connection.key == first.key) is same_key
    assert (wire.connection.ports == first.ports) is same_ports or not same_ports
    assert wire.connection.kernel_name == first.kernel_name
