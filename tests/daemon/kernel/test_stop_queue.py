"""Of many stops at once a few go on at a time, and none is held up for long."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kconnd.core.kernel.lifecycle import State
from kconnd.core.kernel.record import KernelRecord
from kconnd.daemon.kernel.stop_queue import StopTurns
from tests.conftest import wait_until

HELD_S = 0.2


class Kernel:
    """Runs until it is told to end."""

    def __init__(self, number: int) -> None:
        record = KernelRecord(f"lab{number}")
        running = replace(record.lifecycle, state=State.RUNNING)
        self.record = replace(record, lifecycle=running)
        self._ended = asyncio.Event()

    def end(self) -> None:
        self.record = KernelRecord(self.record.name)
        self._ended.set()

    async def until(self, condition: Callable[[KernelRecord], bool]) -> KernelRecord:
        while not condition(self.record):
            await self._ended.wait()
        return self.record


async def test_a_few_end_at_a_time_in_the_order_they_were_asked_for() -> None:
    turns, begun = StopTurns(2, turn_s=60), []
    kernels: list[Any] = [Kernel(number) for number in range(5)]

    async def stop(kernel: Any) -> None:
        await turns.take(kernel)
        begun.append(kernel)

    stops = [asyncio.create_task(stop(kernel)) for kernel in kernels]
    await wait_until(lambda: begun == kernels[:2], "two to have their turn")
    kernels[1].end()
    await wait_until(lambda: begun == kernels[:3], "the next")
    for kernel in kernels:
        kernel.end()
    await asyncio.gather(*stops)
    assert begun == kernels


async def test_one_that_does_not_end_holds_up_the_next_for_a_moment() -> None:
    turns = StopTurns(1, HELD_S)
    kernels: list[Any] = [Kernel(number) for number in range(3)]
    began = asyncio.get_running_loop().time()
    for kernel in kernels:
        await turns.take(kernel)
    assert 2 * HELD_S <= asyncio.get_running_loop().time() - began < 10 * HELD_S


async def test_who_hangs_up_while_it_waits_takes_no_turn() -> None:
    turns = StopTurns(1, turn_s=60)
    first, second, third = (Kernel(number) for number in range(3))
    kernels: list[Any] = [first, second, third]
    await turns.take(kernels[0])
    waiting = asyncio.create_task(turns.take(kernels[1]))
    await asyncio.sleep(0)  # so that it waits
    waiting.cancel()
    first.end()
    async with asyncio.timeout(10):
        await turns.take(kernels[2])
