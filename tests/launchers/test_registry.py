"""The choice between the launchers of a daemon."""

from dataclasses import replace
from pathlib import Path

import pytest

from kconnd.core.kernel.events import Step
from kconnd.core.launch.plan import LaunchPlan
from kconnd.errors import StartFailedError
from kconnd.launchers.registry import Launchers
from tests.launchers.fake import FakeLauncher, files_in

PLAN = LaunchPlan("lab", 3, ("sh",), {}, "/", files_in(Path("/")))


async def test_auto_is_the_first_launcher_and_a_name_is_that_launcher() -> None:
    first, second = FakeLauncher(), FakeLauncher()
    launchers = Launchers({"fork": first, "local": second})
    for launcher in ("auto", "local", "fork"):
        await launchers.launch(replace(PLAN, launcher=launcher))
    assert [plan.launcher for plan in first.launched] == ["auto", "fork"]
    assert [plan.launcher for plan in second.launched] == ["local"]


async def test_a_launcher_that_is_not_here_is_an_error_that_lists_the_others() -> None:
    with pytest.raises(StartFailedError, match="launcher systemd is not available") as caught:
        await Launchers({"local": FakeLauncher()}).launch(replace(PLAN, launcher="systemd"))
    assert "local" in caught.value.hint


async def test_a_launcher_can_be_forbidden_for_now() -> None:
    def check(name: str) -> None:
        raise StartFailedError(f"{name} is forbidden")

    launcher = FakeLauncher()
    with pytest.raises(StartFailedError, match="local is forbidden"):
        await Launchers({"local": launcher}, check).launch(PLAN)
    assert not launcher.launched


async def test_a_kernel_is_controlled_by_the_launcher_of_its_handle() -> None:
    default, fake = FakeLauncher(), FakeLauncher()
    launchers = Launchers({"local": default, "fake": fake})
    handle = await launchers.launch(replace(PLAN, launcher="fake"))
    await launchers.signal(handle, 2)
    assert (default.signals, fake.signals) == ([], [2])
    assert await launchers.adopt(handle)
    await launchers.stop(handle, Step.KILL)
    assert (await launchers.wait(handle)).signal == 9
    await launchers.signal(replace(handle, launcher="of an earlier version"), 2)
    assert default.signals == [2]
