"""Tasks that nothing awaits: they end together, and their faults are logged."""

import asyncio

import pytest

from kconnd.daemon.kernel.background import BackgroundTasks


async def test_all_tasks_but_the_calling_one_are_cancelled() -> None:
    tasks, finished = BackgroundTasks("lab"), asyncio.Event()

    async def cancel_others() -> None:
        tasks.cancel()
        await asyncio.sleep(0)
        finished.set()

    async def wait() -> None:
        await asyncio.Event().wait()

    waiting = tasks.spawn(wait())
    tasks.spawn(cancel_others())
    async with asyncio.timeout(10):
        await finished.wait()
    assert waiting.cancelled()


async def test_a_fault_is_logged_with_the_kernel_s_name(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise RuntimeError("out of order")

    await asyncio.wait([BackgroundTasks("lab").spawn(fail())])
    await asyncio.sleep(0)  # for its callback
    assert "lab: a task of its supervision failed" in caplog.text
    assert "out of order" in caplog.text
