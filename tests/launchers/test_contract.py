"""What every launcher keeps to: the same tests on the fake and on each real one."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kconnd.client import has_front_door
from kconnd.core.kernel.events import Step
from kconnd.core.launch.plan import LaunchPlan
from kconnd.core.paths import FRONT_SOCKET
from kconnd.errors import StartFailedError
from kconnd.launchers.base import Handle, Launcher, parse_handle
from kconnd.launchers.fork import ForkLauncher
from kconnd.launchers.local import LocalLauncher
from kconnd.launchers.transient_unit import SystemdLauncher
from kconnd.system.files.private import take_lock
from kconnd.system.process.processes import ProcessId, command_of, descendants, send_signal
from tests.launchers.fake import FakeLauncher, files_in

WaitUntil = Callable[..., Awaitable[None]]
REAL = ("local", "spare", "systemd", "fork")
real_only = pytest.mark.parametrize("launcher", REAL, indirect=True)
# Stands in for ipykernel where only the launcher is tested: it becomes the shell that it is told.
STAND_IN = """\
import os, signal, sys
del os.environ["PYTHONPATH"]
for number in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(number, signal.SIG_DFL)
os.execvp("sh", ["sh", "-c", sys.argv[1]])
"""


class ForkedShells(ForkLauncher):
    """The real launcher, real parent and real shim, with something small to fork."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, LocalLauncher(folder))
        self._modules = folder / "modules"
        self._modules.mkdir()
        (self._modules / "ipykernel.py").write_text("version_info = (7, 0)\n__version__ = '7.0'\n")
        (self._modules / "ipykernel_launcher.py").write_text(STAND_IN)

    async def launch(self, plan: LaunchPlan) -> Handle:
        if plan.argv[:2] != ("sh", "-c"):
            return await super().launch(plan)
        argv = (sys.executable, "-S", "-m", "ipykernel_launcher", plan.argv[2])
        env = {**plan.env, "PYTHONPATH": str(self._modules)}
        handle = await super().launch(replace(plan, argv=argv, env=env))
        assert (handle.launcher, handle.note) == ("fork", "")
        return handle


@pytest.fixture(params=["fake", *REAL])
async def launcher(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Launcher]:
    """Give each launcher; what a failed test leaves of a real one is ended by its facts."""
    if request.param == "fake":
        yield FakeLauncher()
        return
    local = real = LocalLauncher(tmp_path)
    if request.param == "spare":
        local._shims.ensure_spare()
    if request.param == "systemd":
        if not has_front_door():
            pytest.skip("needs the front door; tests/server runs it where there is one")
        real = SystemdLauncher(tmp_path, Path(FRONT_SOCKET))
    forking = ForkedShells(tmp_path) if request.param == "fork" else None
    real = forking or real
    yield real
    left = await real.find(str(tmp_path / "facts"), str(tmp_path / "exit"), str(tmp_path / "lock"))
    if left is not None:
        await real.stop(left, Step.KILL)
    if forking is not None:
        forking.close()
    local.close()


@pytest.fixture
def plan(tmp_path: Path) -> LaunchPlan:
    files = files_in(tmp_path)
    Path(files.unit_plan).parent.mkdir()  # as a daemon does when it starts
    return LaunchPlan(
        name="k",
        generation=3,
        argv=("sh", "-c", "exec sleep 1000"),
        env={"PATH": "/usr/bin:/bin", "SECRET": "s3cret"},
        cwd="/",
        files=files,
    )


def shell(plan: LaunchPlan, script: str) -> LaunchPlan:
    return replace(plan, argv=("sh", "-c", script))


async def test_wait_returns_the_exit_code(launcher: Launcher, plan: LaunchPlan) -> None:
    handle = await launcher.launch(shell(plan, "exit 7"))
    found = await launcher.wait(handle)
    assert (found.code, found.signal, found.lost) == (7, None, False)


async def test_wait_returns_the_signal(launcher: Launcher, plan: LaunchPlan) -> None:
    handle = await launcher.launch(plan)
    await launcher.stop(handle, Step.KILL)
    found = await launcher.wait(handle)
    assert (found.code, found.signal) == (None, signal.SIGKILL)


async def test_sigterm_is_the_gentle_step(launcher: Launcher, plan: LaunchPlan) -> None:
    handle = await launcher.launch(plan)
    await launcher.stop(handle, Step.TERMINATE)
    assert (await launcher.wait(handle)).signal == signal.SIGTERM


async def test_a_signal_reaches_the_kernel(launcher: Launcher, plan: LaunchPlan) -> None:
    handle = await launcher.launch(plan)
    await launcher.signal(handle, signal.SIGUSR1)
    assert (await launcher.wait(handle)).signal == signal.SIGUSR1


async def test_a_live_kernel_is_adopted_and_a_dead_one_is_not(
    launcher: Launcher, plan: LaunchPlan
) -> None:
    handle = await launcher.launch(plan)
    saved = parse_handle(json.loads(json.dumps(handle.to_json())))
    assert await launcher.adopt(saved)
    await launcher.stop(saved, Step.KILL)
    await launcher.wait(saved)
    assert not await launcher.adopt(saved)


async def test_what_another_boot_launched_is_not_adopted(
    launcher: Launcher, plan: LaunchPlan
) -> None:
    handle = await launcher.launch(plan)
    assert not await launcher.adopt(replace(handle, boot_id="another"))
    await launcher.stop(handle, Step.KILL)
    await launcher.wait(handle)


async def test_a_missing_command_is_told_and_leaves_nothing(
    launcher: Launcher, plan: LaunchPlan
) -> None:
    with pytest.raises(StartFailedError, match="no-such-command") as caught:
        await launcher.launch(replace(plan, argv=("no-such-command",)))
    assert caught.value.hint


@real_only
async def test_a_program_without_x_bit_is_not_called_missing(
    launcher: Launcher, plan: LaunchPlan, tmp_path: Path
) -> None:
    (tmp_path / "start.sh").write_text("#!/bin/sh\n", encoding="utf-8")
    for argv in (("./start.sh",), ("start.sh",), (str(tmp_path / "start.sh"),)):
        env = {**plan.env, "PATH": f"/no/such:{tmp_path}"}
        with pytest.raises(
            StartFailedError, match=r"start\.sh: it exists, but .* no x bit"
        ) as caught:
            await launcher.launch(replace(plan, argv=argv, env=env, cwd=str(tmp_path)))
        assert "chmod +x" in caught.value.hint


@real_only
async def test_a_file_of_the_kernel_has_the_rights_that_the_umask_leaves(
    launcher: Launcher, plan: LaunchPlan, tmp_path: Path
) -> None:
    handle = await launcher.launch(replace(shell(plan, f": > {tmp_path}/new"), umask=0o027))
    assert (await launcher.wait(handle)).code == 0
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


@real_only
async def test_a_missing_folder_is_told(launcher: Launcher, plan: LaunchPlan) -> None:
    with pytest.raises(StartFailedError, match="entering the folder /nowhere"):
        await launcher.launch(replace(plan, cwd="/nowhere"))


@real_only
async def test_signals_after_the_end_reach_nobody(launcher: Launcher, plan: LaunchPlan) -> None:
    handle = await launcher.launch(shell(plan, "exit 0"))
    await launcher.wait(handle)
    ours = ProcessId(os.getpid(), handle.kernel.started)  # as if the number were used again
    stale = replace(handle, kernel=ours, shim=ours)
    await launcher.signal(stale, signal.SIGKILL)
    await launcher.stop(stale, Step.KILL)
    assert not await launcher.adopt(stale)


def of_the_plan(handle: Handle) -> list[ProcessId]:
    """List what a plan has begun; systemd keeps a process for PAM beside it, which goes, too."""
    return [one for one in descendants(handle.shim) if "(sd-pam)" not in command_of(one.pid)]


@real_only
async def test_every_descendant_goes_with_the_kernel(
    launcher: Launcher, plan: LaunchPlan, wait_until: WaitUntil
) -> None:
    """Those too that left the session and that ignore SIGTERM."""
    stubborn = "setsid sh -c 'trap \"\" TERM; sleep 1000; sleep 1000' &"
    handle = await launcher.launch(shell(plan, f"{stubborn} sleep 1000"))
    await wait_until(lambda: len(of_the_plan(handle)) == 4, "all four processes")
    family = descendants(handle.shim)
    send_signal(handle.kernel, signal.SIGKILL)
    found = await launcher.wait(handle)
    assert found.signal == signal.SIGKILL
    assert not any(send_signal(one, 0) for one in family)


def private_memory(pid: int) -> int:
    """Read what a process shares with nobody, in kB (proc_pid_smaps(5))."""
    summary = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    lines = (line for line in summary.splitlines() if line.startswith("Private_"))
    return sum(int(line.split()[1]) for line in lines)


@real_only
async def test_a_shim_takes_little_memory_of_its_own(launcher: Launcher, plan: LaunchPlan) -> None:
    handle = await launcher.launch(plan)
    assert 500 < private_memory(handle.shim.pid) < 4096, "kilobytes; a process has no fewer"


@real_only
async def test_the_exit_is_known_to_a_daemon_that_was_not_there(
    launcher: Launcher, plan: LaunchPlan
) -> None:
    handle = await launcher.launch(shell(plan, "exit 9"))
    await launcher.wait(handle)
    another = LocalLauncher(Path(plan.files.lock).parent)
    later = await another.wait(handle)
    assert later.code == 9
    assert (await another.wait(replace(handle, generation=2))).lost


@real_only
async def test_a_kernel_outlives_its_shim_and_its_end_is_then_lost(
    launcher: Launcher, plan: LaunchPlan
) -> None:
    handle = await launcher.launch(plan)
    send_signal(handle.shim, signal.SIGKILL)
    waiting = asyncio.ensure_future(launcher.wait(handle))
    assert await launcher.adopt(handle)
    await launcher.stop(handle, Step.KILL)
    assert (await waiting).lost


@real_only
async def test_nothing_makes_a_shim_let_go(launcher: Launcher, plan: LaunchPlan) -> None:
    handle = await launcher.launch(plan)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1):
        send_signal(handle.shim, number)
    assert await launcher.adopt(handle)
    await launcher.stop(handle, Step.KILL)
    assert (await launcher.wait(handle)).signal == signal.SIGKILL


@real_only
async def test_a_second_process_for_one_kernel_is_refused(
    launcher: Launcher, plan: LaunchPlan
) -> None:
    handle = await launcher.launch(plan)
    with pytest.raises(StartFailedError, match=r"an earlier process of .* still runs"):
        await launcher.launch(plan)
    await launcher.stop(handle, Step.KILL)
    await launcher.wait(handle)


@real_only
async def test_what_was_launched_is_found_by_the_shims_facts(
    launcher: Launcher, plan: LaunchPlan
) -> None:
    handle = await launcher.launch(plan)
    facts, exit_file, lock = plan.files.facts, plan.files.exit, plan.files.lock
    assert await launcher.find(facts, exit_file, lock) == handle
    assert await launcher.find(facts + "no", exit_file, lock + "no") is None
    await launcher.stop(handle, Step.KILL)
    await launcher.wait(handle)


@real_only
async def test_the_environment_is_the_plans_and_argv_tells_no_secret(
    launcher: Launcher, plan: LaunchPlan, wait_until: WaitUntil
) -> None:
    handle = await launcher.launch(plan)

    def became_sleep() -> bool:
        # A process has its new name a moment before its new environment.
        named = _proc(handle.kernel.pid, "comm") == b"sleep\n"
        return named and _proc(handle.kernel.pid, "environ") != b""

    await wait_until(became_sleep, "the shell to become sleep")
    environment = _proc(handle.kernel.pid, "environ").split(b"\0")[:-1]
    # From Python 3.13 on pdb brings readline, which sets these for what is run from a kernel.
    environment = [one for one in environment if not one.startswith((b"COLUMNS=", b"LINES="))]
    assert sorted(environment) == [b"PATH=/usr/bin:/bin", b"PWD=/", b"SECRET=s3cret"]
    for process in (handle.kernel, handle.shim):
        assert b"s3cret" not in _proc(process.pid, "cmdline")
    assert b"s3cret" not in _proc(handle.shim.pid, "environ")
    assert _ignored_signals(handle) == 0
    await launcher.stop(handle, Step.KILL)
    await launcher.wait(handle)


def _proc(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def _ignored_signals(handle: Handle) -> int:
    status = Path(f"/proc/{handle.kernel.pid}/status").read_text(encoding="ascii")
    lines = dict(line.split(":\t", 1) for line in status.splitlines())
    return int(lines["SigIgn"], 16) | int(lines["SigBlk"], 16)


@real_only
async def test_a_launch_that_is_under_way_is_waited_for(
    launcher: Launcher, plan: LaunchPlan
) -> None:
    """The daemon died after it had sent the plan, and the shim has not said anything yet."""
    handle = await launcher.launch(plan)
    facts, lock_file = plan.files.facts, plan.files.lock + "2"
    lock = take_lock(Path(lock_file), "a shim")
    finding = asyncio.create_task(launcher.find(facts + "2", plan.files.exit, lock_file))
    await asyncio.sleep(0)
    assert not finding.done()
    Path(facts + "2").write_bytes(Path(facts).read_bytes())  # noqa: ASYNC240  # short
    found = await finding
    assert found is not None
    assert (found.shim, found.kernel) == (handle.shim, handle.kernel)
    os.close(lock)
    await launcher.stop(handle, Step.KILL)
    await launcher.wait(handle)


async def test_what_shims_of_every_released_version_wrote_is_understood(tmp_path: Path) -> None:
    """An older shim goes on through any upgrade; its files have only had fields added."""
    for folder in sorted((Path(__file__).parents[1] / "data").glob("state-*")):
        facts, lock = str(folder / "lab.shim.json"), str(tmp_path / "lock")
        launcher = LocalLauncher(tmp_path)
        handle = await launcher.find(facts, str(folder / "exit.json"), lock)
        assert handle is not None
        assert (handle.generation, handle.kernel) == (2, ProcessId(12877, 1722484))
        assert not await launcher.adopt(handle), "of another boot"
        found = await launcher.wait(handle)
        assert (found.code, found.signal, found.at) == (None, 6, 1795441324.808)
