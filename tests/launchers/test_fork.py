"""Why a parent refuses to fork, with something small in the place of ipykernel."""

import sys
from pathlib import Path

import pytest

from kconnd.core.plan import LaunchPlan
from kconnd.launchers.fork import MOST, ForkLauncher
from tests.launchers.fake import FakeLauncher

SOUND = "version_info = (7, 0)\n__version__ = '7.0'\n"


def plan(folder: Path, *, python: str = sys.executable, **env: str) -> LaunchPlan:
    return LaunchPlan(
        name="k",
        generation=1,
        argv=(python, "-S", "-m", "ipykernel_launcher"),
        env={"PYTHONPATH": str(folder / "modules"), **env},
        cwd="/",
        log=str(folder / "log"),
        facts=str(folder / "facts"),
        exit=str(folder / "exit"),
        lock=str(folder / "lock"),
    )


@pytest.mark.parametrize(
    ("ipykernel", "why"),
    [
        ("version_info = (6, 28)\n__version__ = '6.28'\n", "ipykernel 6.28 is older than 6.29"),
        ("raise ImportError('half of it is missing')", "importing ipykernel: half of it"),
        ("import os; os._exit(9)", "its parent ended with code 9 while importing"),
    ],
)
async def test_what_cannot_be_forked_is_launched_cold_and_the_handle_says_why(
    tmp_path: Path, ipykernel: str, why: str
) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "ipykernel.py").write_text(ipykernel)
    launcher = ForkLauncher(tmp_path, FakeLauncher())
    for _ in range(2):  # what was refused once is known the next time
        handle = await launcher.launch(plan(tmp_path))
        assert handle.launcher == "fake"
        assert handle.note.startswith(f"not forked: {why}")
    launcher.close()


async def test_an_interpreter_that_is_not_there_is_no_parent(tmp_path: Path) -> None:
    launcher = ForkLauncher(tmp_path, FakeLauncher())
    handle = await launcher.launch(plan(tmp_path, python="/nowhere/python"))
    assert handle.note == "not forked: running /nowhere/python: No such file or directory"


async def test_parents_are_few_and_each_has_one_environment(tmp_path: Path) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "ipykernel.py").write_text(SOUND)
    launcher = ForkLauncher(tmp_path, FakeLauncher())
    for number in range(MOST + 2):
        await launcher.prepare(plan(tmp_path, LC_ALL=f"C.{number}", OTHER="same"))
    await launcher.prepare(plan(tmp_path, LC_ALL="C.9", OTHER="another"))
    assert len(launcher._parents) == MOST
    launcher.close()
