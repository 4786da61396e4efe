"""Requests for a probe: who may probe, what is refused, and the reply."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kconnd.core.launch.capabilities import CURVE, Fact, FactSource
from kconnd.core.profile.model import Access
from kconnd.daemon.api.probe_request import probe
from kconnd.errors import NoSuchKernelError, RefusedError, UsageError
from kconnd.system.launch_files import read_launch_files
from tests.daemon.fakes import LAB, STRANGER, House, house_in

FORGET = {"forget": True}
SHARED = LAB.model_copy(update={"access": Access(manage=("eve",))})


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with house_in(tmp_path, SHARED) as house:
        yield house


async def test_only_the_owner_may_probe(house: House) -> None:
    """Not even a user who may manage the kernel: a probe runs the owner's programs."""
    for body in ({}, FORGET):
        with pytest.raises(RefusedError, match="only me, who owns it"):
            await probe(house.request("lab", STRANGER, body=body))
    assert not house.launcher.launched


async def test_what_was_learned_is_dropped(house: House) -> None:
    files = await read_launch_files(house.world, SHARED)
    fact = Fact(value=True, source=FactSource.START, evidence="seen", at=1.0)
    house.world.capabilities.learn(files.software, {CURVE: fact})
    assert await probe(house.request("lab", body=FORGET)) == {"name": "lab", "forgotten": True}
    assert await probe(house.request("lab", body=FORGET)) == {"name": "lab", "forgotten": False}
    assert house.world.capabilities.facts(files.software) == {}


async def test_an_unknown_kernel_is_refused(house: House) -> None:
    with pytest.raises(NoSuchKernelError):
        await probe(house.request("nosuch"))
    with pytest.raises(UsageError):
        await probe(house.request("lab", body={"forget": "yes"}))
