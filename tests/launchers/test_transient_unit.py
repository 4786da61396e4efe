"""The launcher of units, with a front door that runs the shim without systemd."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kconnd.core.kernel.events import Step
from kconnd.core.launch.plan import LaunchPlan
from kconnd.errors import RefusedError, StartFailedError
from kconnd.launchers.confinement import Confinement
from kconnd.launchers.transient_unit import SystemdLauncher
from tests.cli.fake_daemon import FakeDaemon, Request
from tests.launchers.fake import files_in

NO_OUTPUT = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]


def run_shim(request: Request) -> dict[str, str]:
    """Run the shim of a request, as the unit would."""
    words = [sys.executable, "-I", "-S"] + [
        request.body[key] for key in ("program", "name", "plan")
    ]
    os.posix_spawn(words[0], words, {}, file_actions=NO_OUTPUT, setsid=True)
    return {"unit": "kconnd-kernel-k.service"}


@pytest.fixture
def front(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path / "front") as front:
        front.replies["POST", "/v1/units"] = run_shim
        yield front


@pytest.fixture
def launcher(tmp_path: Path, front: FakeDaemon) -> SystemdLauncher:
    return SystemdLauncher(tmp_path, front.path)


@pytest.fixture
def plan(tmp_path: Path) -> LaunchPlan:
    files = replace(files_in(tmp_path), unit_plan=str(tmp_path / "plan"))
    argv = ("sh", "-c", "exit 7")
    env = {"PATH": os.environ["PATH"], "SECRET": "s3cret"}
    return LaunchPlan("k", 3, argv, env, "/", files, limits={"memory": 1 << 30})


async def test_the_front_door_runs_the_shim_with_a_plan_that_only_the_shim_reads(
    launcher: SystemdLauncher, plan: LaunchPlan, front: FakeDaemon
) -> None:
    handle = await launcher.launch(plan)
    assert (handle.launcher, handle.generation) == ("systemd", 3)
    assert (await launcher.wait(handle)).code == 7
    (request,) = front.requests
    assert request.body["limits"] == {"memory": 1 << 30}
    assert "s3cret" not in str(request.body)
    assert not Path(plan.files.unit_plan).exists()  # noqa: ASYNC240  # short


async def test_a_kernel_is_found_as_one_of_a_unit(
    launcher: SystemdLauncher, plan: LaunchPlan
) -> None:
    handle = await launcher.launch(replace(plan, argv=("sleep", "1000")))
    files = plan.files
    assert handle.unenforced.keys() == {"memory"}, "this front door made no unit"
    handle = replace(handle, unenforced={})
    assert await launcher.find(files.facts, files.exit, files.lock) == handle
    with pytest.raises(StartFailedError, match="still runs"):
        await launcher.launch(plan)
    await launcher.stop(handle, Step.KILL)
    assert (await launcher.wait(handle)).signal == 9


async def test_a_command_that_cannot_be_run_fails_the_start(
    launcher: SystemdLauncher, plan: LaunchPlan
) -> None:
    with pytest.raises(StartFailedError, match="running no-such-command"):
        await launcher.launch(replace(plan, argv=("no-such-command",)))


async def test_a_refusal_of_the_front_door_fails_the_start_and_leaves_no_plan(
    launcher: SystemdLauncher, plan: LaunchPlan, front: FakeDaemon
) -> None:
    front.replies["POST", "/v1/units"] = RefusedError("too many kernels", hint="stop some")
    with pytest.raises(StartFailedError, match="requesting a unit for k: too many") as caught:
        await launcher.launch(plan)
    assert caught.value.hint == "stop some"
    assert not Path(plan.files.unit_plan).exists()  # noqa: ASYNC240  # short


def test_a_forked_shim_gets_a_scope_and_its_limits(
    launcher: SystemdLauncher, plan: LaunchPlan, front: FakeDaemon
) -> None:
    replies: Any = front.replies
    replies["POST", "/v1/scopes"] = {"limits": {"tasks": 10}}
    assert launcher.confine(plan, 4711) == Confinement({"tasks": 10})
    assert (front.requests[0].body["pid"], front.requests[0].body["generation"]) == (4711, 3)
    replies["POST", "/v1/scopes"] = RefusedError("not yours")
    with pytest.raises(StartFailedError, match="requesting a scope for k: not yours"):
        launcher.confine(plan, 4711)
