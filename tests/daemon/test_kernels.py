"""All kernels of a daemon: which are added, started, forgotten and refused."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from kconnd.core.kernel.lifecycle import Lifecycle, State
from kconnd.core.kernel.record import KernelRecord, Origin
from kconnd.core.profile.model import Profile
from kconnd.daemon.api import commands
from kconnd.errors import NoSuchKernelError, ProfileError, RefusedError, UsageError
from kconnd.system.profiles.faults import Fault
from kconnd.system.store import Store
from tests.daemon.fakes import LAB, House, house_in

BOOT = LAB.model_copy(update={"name": "boot", "start": "boot"})


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with house_in(tmp_path, LAB, BOOT) as house:
        yield house


def names_of(house: House) -> list[str]:
    return [actor.record.name for actor in house.kernels.all()]


async def test_the_adoption_adds_each_profile_and_starts_those_of_the_boot(house: House) -> None:
    await house.kernels.adopt_all()
    assert house.kernels.adopted.is_set()
    assert names_of(house) == ["boot", "lab"]
    await house.reach("boot", State.RUNNING)
    assert [plan.name for plan in house.launcher.launched] == ["boot"]


async def test_a_kernel_that_was_stopped_in_this_boot_is_not_started_again(house: House) -> None:
    house.world.store.save(KernelRecord("boot"))
    await house.kernels.adopt_all()
    actor = house.kernels.find("boot")
    assert actor._queue.empty()
    assert house.launcher.launched == []


async def test_a_reload_adds_kernels_and_forgets_those_that_have_ended(house: House) -> None:
    await house.kernels.adopt_all()
    await house.reach("boot", State.RUNNING)
    added = LAB.model_copy(update={"name": "later", "start": "boot"})
    house.hold(added)
    difference = await house.kernels.reload()
    assert (difference.added, difference.removed) == (("later",), ("boot", "lab"))
    assert names_of(house) == ["boot", "later"], "a live kernel stays without its profile"
    await house.reach("later", State.RUNNING)


async def test_an_unknown_kernel_is_not_found(house: House) -> None:
    for find in (house.kernels.find, house.kernels.find_to_start):
        with pytest.raises(NoSuchKernelError, match="there is no kernel lub") as caught:
            find("lub")
        assert caught.value.hint == "did you mean lab?"
    assert names_of(house) == []


async def test_a_kernel_whose_profile_was_removed_says_so(house: House) -> None:
    await house.kernels.adopt_all()
    house.world.store.save(KernelRecord("lab"))
    fault = Fault("boot.yaml", 3, 1, "kernal", "unknown key", "write kernel")
    house.world.store.save(KernelRecord("boot@1"))
    house.hold()
    house.loaded = replace(house.loaded, first_faults={"boot": fault})
    await house.kernels.reload()
    for find in (house.kernels.find, house.kernels.find_to_start):
        with pytest.raises(NoSuchKernelError, match="profile or kernel spec was removed") as e:
            find("lab")
        assert str(house.world.files("lab").log) in e.value.hint
    with pytest.raises(NoSuchKernelError, match=r"there is no kernel boot@1$"):
        house.kernels.find("boot@1")


async def test_an_instance_exists_once_it_was_started(house: House) -> None:
    with pytest.raises(NoSuchKernelError) as caught:
        house.kernels.find("lab@x")
    assert caught.value.hint == "kconnd-ctl start lab@x creates it from the profile lab"
    assert house.kernels.find_to_start("lab@x") is house.kernels.find("lab@x")


async def test_an_instance_of_a_profile_with_fixed_ports_is_refused(house: House) -> None:
    ports = [26001, 26002, 26003, 26004, 26005]
    house.hold(Profile(name="fixed", kernel="k", transport="tcp", ports=ports))
    await house.kernels.reload()
    house.kernels.find_to_start("fixed")
    with pytest.raises(UsageError, match="starting fixed@x: its profile has fixed ports"):
        house.kernels.find_to_start("fixed@x")


async def test_a_faulty_profile_is_named(house: House) -> None:
    fault = Fault("bad.yaml", 3, 1, "kernal", "unknown key", "write kernel")
    house.loaded = replace(house.loaded, first_faults={"bad": fault})
    await house.kernels.reload()
    with pytest.raises(ProfileError, match=r"the profile of bad has faults: .*unknown key"):
        house.kernels.find_to_start("bad")


def launch_elsewhere(house: House) -> None:
    """Save a record as the daemon of another machine does, which shares the state folder."""
    store = Store(house.world.store.state_dir, Origin("other", "far", "boot"))
    store.save(KernelRecord("lab", lifecycle=Lifecycle(state=State.RUNNING)))
    store.close()


async def test_a_kernel_that_another_machine_has_launched_is_refused(house: House) -> None:
    house.kernels.find_to_start("lab")
    assert not house.kernels.is_foreign("lab")
    launch_elsewhere(house)
    assert house.kernels.is_foreign("lab"), "it has no process here"
    with pytest.raises(RefusedError, match="lab is a kernel of far"):
        house.kernels.find_to_start("lab")
    assert house.kernels.is_foreign("lab")
    assert names_of(house) == []
    assert [record.name for record in await house.kernels.list_elsewhere()] == ["lab"]
    with pytest.raises(RefusedError, match="lab is a kernel of far"):
        house.kernels.find("lab")


async def test_a_foreign_kernel_is_adopted_once_it_is_ours(house: House) -> None:
    launch_elsewhere(house)
    with pytest.raises(RefusedError):
        house.kernels.find_to_start("lab")
    house.world.store.save(KernelRecord("lab"))
    await house.kernels.recheck_foreign("lab")
    assert names_of(house) == ["lab"]
    assert house.kernels.foreign == {}


async def test_all_live_kernels_are_stopped(house: House) -> None:
    for name in ("lab", "boot"):
        await commands.start(house.request(name))
    await house.kernels.stop_all()
    assert {actor.kernel.state for actor in house.kernels.all()} == {State.STOPPED}
