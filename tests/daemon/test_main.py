"""How the daemon waits for its end, and how its tasks go on after a fault."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from kconnd.daemon.main import _reload_when, _until_either, keep_going
from kconnd.errors import ProfileError
from tests.conftest import wait_until


async def test_a_task_that_failed_starts_again(caplog: pytest.LogCaptureFixture) -> None:
    runs: list[int] = []

    async def work() -> None:
        runs.append(len(runs))
        if len(runs) < 3:
            raise RuntimeError("a fault")

    await keep_going(work, 0.0)
    assert runs == [0, 1, 2]
    assert caplog.text.count("a fault in the daemon") == 2


async def test_a_daemon_that_cannot_work_ends_with_the_reason() -> None:
    async def fail() -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        await _until_either(asyncio.create_task(fail()), asyncio.Event())


async def test_a_daemon_ends_when_it_is_asked_to_and_leaves_its_tasks_to_the_caller() -> None:
    ending = asyncio.Event()
    work = asyncio.create_task(asyncio.Event().wait())
    ending.set()
    await _until_either(work, ending)  # type: ignore[arg-type]  # its result is not used
    assert not work.done()
    work.cancel()


async def test_each_request_reloads_the_profiles_once_also_after_a_refusal() -> None:
    requested = asyncio.Event()
    reloads: list[int] = []

    async def reload() -> str:
        reloads.append(len(reloads))
        if len(reloads) == 1:
            raise ProfileError("reading the profiles: 16 files do not answer")
        return "no difference"

    kernels: Any = SimpleNamespace(reload=reload)
    task = asyncio.create_task(_reload_when(requested, kernels))
    for count in (1, 2):
        requested.set()
        await wait_until(lambda: len(reloads) == count, "the reload")  # noqa: B023  # at once
        assert not requested.is_set()
    task.cancel()
