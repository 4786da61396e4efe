"""The wire of a launch: learned facts, restarts, fallbacks, shared kernels."""

from pathlib import Path
from typing import Any

import pytest

from kconnd.core.kernel.events import Launch
from kconnd.core.launch.capabilities import (
    CURVE,
    SECONDS_TO_START,
    UNIX_SOCKETS,
    Fact,
    FactSource,
)
from kconnd.core.launch.wire import Attempts, Trial
from kconnd.core.profile.model import Access, Profile
from kconnd.daemon.context import World
from kconnd.daemon.kernel.wiring import Previous, Wire, prepare_wire
from kconnd.errors import StartFailedError
from kconnd.system.launch_files import LaunchFiles, read_launch_files
from tests.daemon.kernel.fakes import make_world

LAB = Profile(name="lab", argv=("/bin/kernel", "{connection_file}"))
FIRST = Launch(1, new_key=True, new_ports=True)
FALLBACK = Launch(2, new_ports=True, fallback=True)


class Bench:
    """A kernel of which nothing is known but what a test says."""

    def __init__(self, world: World, files: LaunchFiles, profile: Profile) -> None:
        self.world, self.files, self.profile = world, files, profile

    @classmethod
    async def build(cls, folder: Path, profile: Profile = LAB) -> "Bench":
        world = make_world(folder)
        return cls(world, await read_launch_files(world, profile), profile)

    def learn(self, **values: Any) -> None:
        facts = {name: Fact(value, FactSource.START, "", 1.0) for name, value in values.items()}
        self.world.capabilities.learn(self.files.software, facts)

    async def wire(self, command: Launch = FIRST, *more: Any, **options: Any) -> Wire:
        return await prepare_wire(
            self.world, "lab", self.profile, self.files, command, *more, **options
        )


async def test_three_starts_learn_which_wire_is_spoken(tmp_path: Path) -> None:
    bench = await Bench.build(tmp_path)
    first = await bench.wire()
    assert (first.connection.transport, first.connection.curve, first.trial) == ("tcp", None, None)
    assert first.warnings
    bench.learn(**{SECONDS_TO_START: 4.0})
    second = await bench.wire()
    assert (second.connection.transport, second.trial) == ("ipc", Trial.UNIX_SOCKETS)
    assert second.trial_limit_s == 12.0
    assert not second.warnings
    bench.learn(**{UNIX_SOCKETS: False})
    third = await bench.wire()
    assert (third.connection.transport, third.trial) == ("tcp", Trial.CURVE)
    assert third.connection.curve is not None


async def test_a_fallback_keeps_the_key_and_tries_nothing(tmp_path: Path) -> None:
    bench = await Bench.build(tmp_path)
    bench.learn(**{SECONDS_TO_START: 4.0})
    trial = await bench.wire()
    fallback = await bench.wire(FALLBACK, Previous(trial.connection))
    assert (fallback.connection.transport, fallback.trial) == ("tcp", None)
    assert fallback.connection.key == trial.connection.key


async def test_a_restart_keeps_the_wire_to_which_clients_are_attached(tmp_path: Path) -> None:
    bench = await Bench.build(tmp_path)
    first = (await bench.wire()).connection
    bench.learn(**{SECONDS_TO_START: 4.0, UNIX_SOCKETS: True})
    again = await bench.wire(Launch(2), Previous(first))
    assert again.connection == first
    changed = await bench.wire(Launch(2), Previous(first, same_wire=False))
    assert changed.connection.transport == "ipc"


async def test_nothing_is_tried_on_a_warm_kernel(tmp_path: Path) -> None:
    bench = await Bench.build(tmp_path)
    bench.learn(**{SECONDS_TO_START: 4.0})
    warm = await bench.wire(attempts=Attempts.LIKELY)
    assert (warm.connection.transport, warm.trial) == ("tcp", None)


async def test_a_shared_kernel_is_encrypted_or_not_started(tmp_path: Path) -> None:
    shared = LAB.model_copy(update={"access": Access(connect=("bob",))})
    bench = await Bench.build(tmp_path, shared)
    for wire in (await bench.wire(), await bench.wire(FALLBACK)):
        assert wire.connection.curve is not None
        assert wire.trial is None, "nothing is tried"
    bench.learn(**{CURVE: False})
    with pytest.raises(StartFailedError, match="has no encryption"):
        await bench.wire()
