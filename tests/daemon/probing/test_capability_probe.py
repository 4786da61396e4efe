"""A probe over scripted software: each finding, what is stored, and what is left behind."""

import asyncio
import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kconnd.core.launch.capabilities import MEANINGS, FactSource
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.wire import Trial
from kconnd.core.profile.model import Access, Profile
from kconnd.core.profile.values import Ports
from kconnd.daemon.probing.capability_probe import Prober, on_wire
from kconnd.daemon.probing.probe_kernel import ProbeLimits, launch_probe_kernel
from kconnd.daemon.warm.maker import Maker
from kconnd.errors import StartFailedError
from kconnd.system.launch_files import read_launch_files
from tests.conftest import wait_until
from tests.daemon.kernel.fakes import FakeChannels, fail_after_grant
from tests.daemon.probing.fakes import FakeSoftware

LAB = Profile(
    name="lab",
    argv=("/bin/kernel", "{connection_file}"),
    ports=Ports(fixed=(26001, 26002, 26003, 26004, 26005)),
    access=Access(connect=("ada",)),
)
# A fake answers at once or never.
SHORT = ProbeLimits(0.2, 0.2, 0.0, 0.2, 0.5, 0.2, 0.1, 0.2, 0.2)
ALL_TRUE = dict.fromkeys(MEANINGS, True) | {"rewrites_connection_file": False}


async def values(software: FakeSoftware) -> dict[str, Any]:
    """Probe, and return the value of each fact but the time of a start."""
    report = await Prober(software.world, SHORT).probe("lab", LAB)
    found = {name: finding.value for name, finding in report.findings.items()}
    assert found.pop("seconds_to_start") is not None
    assert not software.live
    assert not software.files()
    assert not software.world.ledger.granted()
    return found


def expected(**differs: bool | None) -> dict[str, Any]:
    return {**{k: v for k, v in ALL_TRUE.items() if k != "seconds_to_start"}, **differs}


async def test_what_a_kernel_supports_is_found_and_stored(tmp_path: Path) -> None:
    software = FakeSoftware(tmp_path)
    assert await values(software) == expected()
    files = await read_launch_files(software.world, LAB)
    stored = software.world.capabilities.facts(files.software)
    assert {fact.source for fact in stored.values()} == {FactSource.PROBE}
    assert {name: fact.value for name, fact in stored.items() if name in expected()} == expected()
    assert await Prober(software.world, SHORT).forget(LAB) is True
    assert software.world.capabilities.facts(files.software) == {}
    assert await Prober(software.world, SHORT).forget(LAB) is False


async def test_what_a_kernel_does_not_support_is_found(tmp_path: Path) -> None:
    software = FakeSoftware(
        tmp_path, wires=frozenset({("tcp", False)}), dies_of_sigint=True, rewrites=True
    )
    assert await values(software) == expected(
        unix_sockets=False,
        curve=False,
        rewrites_connection_file=True,
        sigint_ends_cell=False,
        survives_sigint=False,
    )


async def test_the_ports_of_a_kernel_that_cannot_be_planned_are_released(tmp_path: Path) -> None:
    software = FakeSoftware(tmp_path)
    software.world = fail_after_grant(software.world)
    profile = LAB.model_copy(update={"transport": "tcp"})
    files = await read_launch_files(software.world, profile)
    with pytest.raises(StartFailedError, match="a fault after the grant"):
        async with launch_probe_kernel(
            software.world, Maker(software.world), profile, files, SHORT
        ):
            pass
    assert software.world.ledger.granted() == {}


async def test_what_does_not_come_is_waited_for_to_a_limit(tmp_path: Path) -> None:
    software = FakeSoftware(
        tmp_path, on_control=False, beats_idle=False, hears_messages=False, stays=True
    )
    assert await values(software) == expected(
        answers_on_control=False,
        heartbeat_idle=False,
        interrupt_request_ends_cell=False,
        exits_after_shutdown=False,
    )


async def test_a_wrapper_kernel_does_not_reply_to_an_interrupted_cell(tmp_path: Path) -> None:
    assert await values(FakeSoftware(tmp_path, replies_interrupted=False)) == expected(
        replies_after_interrupt=False
    )


async def test_a_heartbeat_is_tested_while_a_cell_runs(tmp_path: Path) -> None:
    assert await values(FakeSoftware(tmp_path, beats_busy=False)) == expected(heartbeat_busy=False)


async def test_without_a_long_cell_its_facts_are_not_tested(tmp_path: Path) -> None:
    software = FakeSoftware(tmp_path, language="Klingon")
    report = await Prober(software.world, SHORT).probe("lab", LAB)
    finding = report.findings["heartbeat_busy"]
    assert (finding.value, "known for Klingon" in finding.evidence) == (None, True)
    assert software.cells == ["1"]
    files = await read_launch_files(software.world, LAB)
    assert "heartbeat_busy" not in software.world.capabilities.facts(files.software)


async def test_a_kernel_that_does_not_start_is_not_probed(tmp_path: Path) -> None:
    software = FakeSoftware(tmp_path, wires=frozenset())
    with pytest.raises(StartFailedError, match="probing lab: it exited with code 1"):
        await Prober(software.world, SHORT).probe("lab", LAB)
    assert not software.files()


async def test_a_kernel_that_cannot_be_connected_to_is_ended(tmp_path: Path) -> None:
    software = FakeSoftware(tmp_path)

    def connect(_: ConnectionInfo) -> FakeChannels:
        raise OSError(errno.EMFILE, "no descriptor is left")

    world = replace(software.world, connect=connect)
    with pytest.raises(OSError, match="no descriptor"):
        await Prober(world, SHORT).probe("lab", LAB)
    assert len(software.launcher.launched) == 1
    assert not software.live
    assert not software.files()


@pytest.mark.parametrize("by_daemon", [True, False])
async def test_an_aborted_probe_leaves_no_kernel(tmp_path: Path, *, by_daemon: bool) -> None:
    software = FakeSoftware(tmp_path)
    prober = Prober(software.world, SHORT)
    task = asyncio.create_task(prober.probe("lab", LAB))
    await wait_until(lambda: software.is_busy, "the long cell")
    if by_daemon:
        await prober.end()
    else:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not software.live
    assert not software.files()


async def test_two_probes_run_one_after_the_other(tmp_path: Path) -> None:
    software = FakeSoftware(tmp_path, language="Klingon")
    prober = Prober(software.world, SHORT)
    await asyncio.gather(prober.probe("lab", LAB), prober.probe("lab", LAB))
    assert software.most_live == 1


@pytest.mark.parametrize(
    ("trial", "wire"),
    [
        (None, ("tcp", "none")),
        (Trial.UNIX_SOCKETS, ("ipc", "none")),
        (Trial.CURVE, ("tcp", "curve")),
    ],
)
def test_a_probe_uses_ports_of_its_own(trial: Trial | None, wire: tuple[str, str]) -> None:
    profile = on_wire(LAB, trial)
    assert (profile.transport, profile.encryption) == wire
    assert profile.ports == Ports()
    assert not profile.access.connect
