"""The check of a kernel's shells: one that is lost is repeated, and control is asked as well."""

import asyncio
from pathlib import Path

import pytest

from kconnd.daemon.kernel import shell_check
from kconnd.daemon.kernel.shell_check import ShellCheck
from tests.conftest import wait_until
from tests.daemon.kernel.fakes import FakeChannels, a_connection


def a_check(folder: Path) -> tuple[ShellCheck, FakeChannels]:
    channels = FakeChannels(a_connection(folder), asyncio.Event())
    channels.may_answer.set()
    check = ShellCheck(channels, asyncio.get_running_loop().time)
    check.begin()
    return check, channels


async def test_all_shells_have_to_answer(tmp_path: Path) -> None:
    check, channels = a_check(tmp_path)
    channels.subshells = ["s1"]
    assert await check.run()
    assert channels.asked == ["shell", "list_subshells", "s1"]
    assert (check.sent_at, check.control_answers) == (None, False)


async def test_an_invalid_list_of_subshells_proves_nothing(tmp_path: Path) -> None:
    check, channels = a_check(tmp_path)
    channels.subshells, channels.fault = ["s1"], ValueError("its list of subshells is invalid")
    assert not await check.run()


async def test_a_lost_request_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_check, "CONTROL_AFTER_S", 0.01)
    monkeypatch.setattr(shell_check, "RETRY_AFTER_S", 0.02)
    check, channels = a_check(tmp_path)
    channels.silent = {"shell"}
    sent_at, running = check.sent_at, asyncio.create_task(check.run())
    await wait_until(lambda: channels.asked.count("shell") > 1, "the next request")
    assert check.control_answers
    assert check.sent_at == sent_at, "it has been silent since"
    channels.silent = set()
    assert await running
