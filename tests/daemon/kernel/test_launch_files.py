"""The look-ups of a launch: descriptors, files and the connection."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from kconnd.core.kernel.events import Launch
from kconnd.core.launch.kernel_files import kernel_files
from kconnd.core.launch.session import Session
from kconnd.core.profile.model import Profile
from kconnd.daemon.kernel.wiring import Previous, prepare_wire
from kconnd.errors import StartFailedError
from kconnd.system.launch_files import check_descriptors, make_plan, read_launch_files
from kconnd.system.program_choice import ProgramHints
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


async def test_only_launches_from_equal_sessions_share_a_reading(tmp_path: Path) -> None:
    world, profile = make_world(tmp_path), LAB.model_copy(update={"pass_env": ("A",)})
    sessions = [Session(variables={"A": letter}, requested=("A",), pid=1) for letter in "abbb"]
    sessions += [replace(sessions[-1], umask=0o077), replace(sessions[-1], path="/other")]
    hints = [ProgramHints(session=replace(session, pid=n)) for n, session in enumerate(sessions)]
    reading = (read_launch_files(world, profile, hint) for hint in hints)
    files = await asyncio.gather(*reading)
    assert [(found.inherited.variables or {}).get("A") for found in files] == [*"abbbbb"]
    assert [found.inherited.umask.value == 0o077 for found in files] == [False] * 4 + [True, False]
    assert [found.inherited.path for found in files].count("/other") == 1
    assert files[1] is files[2] is files[3]
    assert len({id(found) for found in files}) == 4
    assert await read_launch_files(world, profile, hints[1]) is not files[1]


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
