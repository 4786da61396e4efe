"""A spare shim is any other's equal, and is in nobody's way."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from kconnd.core.kernel.events import Step
from kconnd.core.launch.plan import LaunchPlan
from kconnd.errors import StillRunningError
from kconnd.launchers.local import LocalLauncher
from kconnd.launchers.shim_process import NAME_ROOM
from kconnd.system.files.private import is_locked, take_lock
from kconnd.system.process.find_shim import find_shim
from tests.conftest import wait_for
from tests.launchers.fake import files_in

ROOT = Path(__file__).parents[2]
WaitUntil = Callable[..., Awaitable[None]]
NAME = "k" * 40 + "@" + "i" * 40  # the longest there is


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncIterator[LocalLauncher]:
    found = LocalLauncher(tmp_path)
    found._shims.ensure_spare()
    yield found
    found.close()
    left = await found.find(*(str(tmp_path / one) for one in ("facts", "exit", "lock")))
    if left is not None:
        await found.stop(left, Step.KILL)
        await found.wait(left)


@pytest.fixture
def plan(tmp_path: Path) -> LaunchPlan:
    argv = ("sh", "-c", "exec sleep 1000")
    return LaunchPlan(NAME, 3, argv, {}, "/", files_in(tmp_path))


def spare_of(launcher: LocalLauncher) -> int:
    (spare,) = launcher._shims._spares
    return spare.pid


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_a_spare_becomes_the_shim_of_the_next_kernel_and_shows_its_name(
    launcher: LocalLauncher, plan: LaunchPlan
) -> None:
    pid = spare_of(launcher)
    assert find_shim(NAME) is None
    handle = await launcher.launch(plan)
    assert handle.shim.pid == pid
    assert find_shim(NAME) == handle.shim
    await launcher.stop(handle, Step.KILL)
    assert (await launcher.wait(handle)).signal == signal.SIGKILL


async def test_after_a_start_there_is_a_spare_again(
    launcher: LocalLauncher, plan: LaunchPlan, wait_until: WaitUntil
) -> None:
    handle = await launcher.launch(plan)
    assert not launcher._shims._spares, "not at once"
    await wait_until(lambda: launcher._shims._spares, "a spare")
    spare = psutil.Process(spare_of(launcher))
    # While a program begins, its command line is empty.
    await wait_until(lambda: spare.cmdline()[4:] == [NAME_ROOM], "it to be nobody's yet")
    await launcher.stop(handle, Step.KILL)


async def test_where_the_spare_is_gone_a_new_one_does_it(
    launcher: LocalLauncher, plan: LaunchPlan, wait_until: WaitUntil
) -> None:
    pid = spare_of(launcher)
    os.kill(pid, signal.SIGKILL)
    await wait_until(lambda: is_gone(pid), "its end")
    handle = await launcher.launch(plan)
    assert handle.shim.pid != pid
    assert not psutil.pid_exists(pid), "nothing of it is left"
    await launcher.stop(handle, Step.KILL)


async def test_a_kernel_that_cannot_start_takes_no_spare(
    launcher: LocalLauncher, plan: LaunchPlan
) -> None:
    pid = spare_of(launcher)
    lock = take_lock(Path(plan.files.lock), "somebody")
    with pytest.raises(StillRunningError, match="somebody"):
        await launcher.launch(plan)
    os.close(lock)
    assert spare_of(launcher) == pid
    os.mkdir(plan.files.exit)  # noqa: PTH102  # short
    with pytest.raises(OSError, match=plan.files.exit):
        await launcher.launch(plan)
    assert not psutil.pid_exists(pid), "and one that it has taken is let go"
    odd = replace(plan, argv=("\ud800",), files=replace(plan.files, exit=plan.files.lock))
    launcher._shims.ensure_spare()
    pid = spare_of(launcher)
    for _ in range(2):  # by a spare, and by a new one
        with pytest.raises(UnicodeEncodeError):
            await launcher.launch(odd)
        assert not is_locked(Path(plan.files.lock)), "nobody waits for what never comes"
    assert not psutil.pid_exists(pid)


async def test_it_ends_with_its_launcher(launcher: LocalLauncher) -> None:
    pid = spare_of(launcher)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # only how many
    launcher.close()
    assert not psutil.pid_exists(pid)
    assert len(os.listdir("/proc/self/fd")) == before - 2  # noqa: PTH208  # the same
    launcher.close()


def test_it_ends_with_its_daemon_whatever_that_ends_by(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time\n"
        "from kconnd.launchers.local import LocalLauncher\n"
        "launcher = LocalLauncher(pathlib.Path(sys.argv[1]))\n"
        "launcher._shims.ensure_spare()\n"
        "print(launcher._shims._spares[0].pid, flush=True)\n"
        "time.sleep(1000)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as daemon:
        assert daemon.stdout is not None
        pid = int(daemon.stdout.readline())
        assert not is_gone(pid)
        daemon.kill()
    wait_for(lambda: is_gone(pid), "its end")


async def test_what_cannot_be_spawned_is_done_without(
    launcher: LocalLauncher, plan: LaunchPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher.close()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nonexistent")
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # only how many
        launcher._shims.ensure_spare()
        assert not launcher._shims._spares
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208  # the same
    handle = await launcher.launch(plan)
    await launcher.stop(handle, Step.KILL)
