"""What a kernel inherits without a session: asked once, and never a reason to fail."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from kconnd.core.launch.plan import SYSTEM_PATH
from kconnd.core.launch.session import Umask
from kconnd.errors import TimedOutError
from kconnd.system.account_defaults import AccountDefaults, find_umask, read_umask

UID = 4711


async def test_the_login_shell_is_asked_once_for_all_launches() -> None:
    calls: list[str] = []

    def ask() -> str:
        calls.append("")
        return "/opt/bin"

    account = AccountDefaults(ask)
    assert await asyncio.gather(*(account.path() for _ in range(5))) == ["/opt/bin"] * 5
    assert await account.path() == "/opt/bin"
    assert len(calls) == 1


async def test_a_launch_that_is_cancelled_does_not_cancel_the_answer_for_others() -> None:
    answer = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask() -> str:
        asyncio.run_coroutine_threadsafe(answer.wait(), loop).result()
        return "/opt/bin"

    account = AccountDefaults(ask)
    first, second = (asyncio.ensure_future(account.path()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    answer.set()
    assert await second == "/opt/bin"


@pytest.mark.parametrize("error", [FileNotFoundError("no shell"), TimedOutError("too many calls")])
async def test_a_shell_that_does_not_tell_path_is_replaced_by_the_system_s(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> str:
        raise error

    assert await AccountDefaults(fail).path() == SYSTEM_PATH
    assert str(error) in caplog.text


def test_the_umask_is_that_of_the_service_manager_or_the_daemon_s(tmp_path: Path) -> None:
    assert find_umask(UID, 0o022, tmp_path) == Umask(0o022, "daemon")
    for hierarchy in ("", "systemd"):
        scope = tmp_path / hierarchy / f"user.slice/user-{UID}.slice/user@{UID}.service/init.scope"
        scope.mkdir(parents=True)
        procs = scope / "cgroup.procs"
        procs.write_text("")
        assert find_umask(UID, 0o022, tmp_path) == Umask(0o022, "daemon")
        with subprocess.Popen(["/bin/sleep", "60"], umask=0o007) as manager:
            procs.write_text(f"999999999\n{manager.pid}\n")
            assert find_umask(UID, 0o022, tmp_path) == Umask(0o007, "account")
            manager.kill()
        procs.unlink()


def test_the_umask_of_a_process_is_read_without_a_change() -> None:
    before = os.umask(0o031)
    assert read_umask(os.getpid()) == os.umask(before) == 0o031
    assert read_umask(999999999) is None
