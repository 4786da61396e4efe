"""Long work lets other tasks run once its turn is used up."""

import asyncio
import time

from kconnd.daemon.yielding import TURN_CPU_S, in_turns


def work() -> None:
    """Use up the processor time of a turn."""
    started_at = time.thread_time()
    while time.thread_time() - started_at < TURN_CPU_S:
        pass


async def test_other_tasks_run_between_two_turns() -> None:
    ran_at: list[int] = []
    items: list[int] = []

    async def note() -> None:
        ran_at.append(len(items))

    task = asyncio.create_task(note())
    async for item in in_turns(range(3)):
        items.append(item)
        work()
    await task
    assert items == [0, 1, 2]
    assert ran_at == [1]
