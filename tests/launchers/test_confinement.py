"""A kernel with limits is moved into a scope before it runs, and what is in force is read back."""

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kconnd.core.launch.plan import LaunchPlan, User
from kconnd.core.limits import NO_CGROUP_LIMIT, NO_MANAGER
from kconnd.errors import KconndError
from kconnd.launchers.base import parse_handle
from kconnd.launchers.confinement import Confinement, UserScopes
from kconnd.launchers.local import LocalLauncher
from kconnd.system import user_scope
from tests.launchers.fake import files_in

NOBODY = User("nobody", 65534, "/", "/bin/sh")
WITH_LIMITS = {"memory": 1 << 30, "tasks": 50, "open_files": 300}


class Recorder:
    """Scopes that no shim is moved into; it notes what the shim runs by then."""

    def __init__(self) -> None:
        self.children: list[str] = []

    def needs_scope(self, plan: LaunchPlan) -> bool:
        return "memory" in plan.limits

    def confine(self, plan: LaunchPlan, shim: int) -> Confinement:
        self.children.append(Path(f"/proc/{shim}/task/{shim}/children").read_text())
        return Confinement(plan.limits, is_confined=False, reasons={"memory": "it was not moved"})


@pytest.fixture
def plan(tmp_path: Path) -> LaunchPlan:
    argv = ("sh", "-c", "ulimit -n; exit 7")
    env = {"PATH": os.environ["PATH"]}
    return LaunchPlan("k", 3, argv, env, "/", files_in(tmp_path), limits=WITH_LIMITS)


@pytest.mark.parametrize("is_spare", [False, True])
async def test_a_shim_is_moved_before_it_has_a_kernel(
    tmp_path: Path, plan: LaunchPlan, *, is_spare: bool
) -> None:
    scopes = Recorder()
    launcher = LocalLauncher(tmp_path, scopes)
    if is_spare:
        launcher._shims.ensure_spare()
    handle = await launcher.launch(plan)
    assert (await launcher.wait(handle)).code == 7
    launcher.close()
    assert scopes.children == [""]
    assert handle.unenforced == {"memory": "it was not moved", "tasks": NO_CGROUP_LIMIT}
    assert Path(plan.files.log).read_text().endswith("300\n")  # noqa: ASYNC240  # short
    assert parse_handle(handle.to_json()) == handle


async def test_a_kernel_without_limits_is_not_moved(tmp_path: Path, plan: LaunchPlan) -> None:
    scopes = Recorder()
    launcher = LocalLauncher(tmp_path, scopes)
    handle = await launcher.launch(replace(plan, limits={"open_files": 200}))
    assert (await launcher.wait(handle)).code == 7
    launcher.close()
    assert scopes.children == []
    assert {"limits", "unenforced"}.isdisjoint(replace(handle, limits={}).to_json())


def test_a_user_without_a_systemd_gets_no_scope_and_the_reason(plan: LaunchPlan) -> None:
    scopes = UserScopes(NOBODY)
    assert scopes.needs_scope(plan)
    assert not scopes.needs_scope(replace(plan, limits={"open_files": 7}))
    confinement = scopes.confine(plan, 4711)
    assert not confinement.is_confined
    assert confinement.reasons == {"memory": NO_MANAGER, "tasks": NO_MANAGER}


@pytest.fixture
def busctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give a function that puts a shell script in the place of busctl."""

    def write(script: str) -> None:
        program = tmp_path / "busctl"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return write


def test_the_call_of_the_users_systemd(tmp_path: Path, busctl: Callable[[str], None]) -> None:
    busctl(f'echo "$XDG_RUNTIME_DIR $@" > {tmp_path}/call; echo \'s "253.5-1"\'')
    assert user_scope.read_manager_version(65534) == 253
    with pytest.raises(KconndError, match=r"did not move process 4194304 into k\.scope"):
        user_scope.start_scope(65534, "k.scope", 1 << 22, {"MemoryMax": ("t", 4096)}, limit_s=0)
    call = (tmp_path / "call").read_text().split()
    assert call[0] == "/run/user/65534"
    words = ["k.scope", "fail", "2", "PIDs", "au", "1", "4194304", "MemoryMax", "t", "4096", "0"]
    assert call[-len(words) :] == words


def test_a_refusal_is_an_error_with_the_reason(busctl: Callable[[str], None]) -> None:
    busctl("echo Access denied >&2; exit 1")
    with pytest.raises(KconndError, match="the user's systemd refused: Access denied"):
        user_scope.read_manager_version(65534)
