"""Divides long work in the event loop into turns, between which other tasks run.

The work takes as long in total as without turns. Work that can run in a thread should run in a
thread instead. This module is for loops that cannot run in a thread, because the daemon's state
must not change during an iteration.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

TURN_CPU_S = 0.005  # the processor time after which other tasks run

T = TypeVar("T")


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield items, and let other tasks run when a turn of `TURN_CPU_S` is over.

    The daemon's state may change between two items.
    """
    started_at = time.thread_time()
    for item in list(items):
        yield item
        if time.thread_time() - started_at >= TURN_CPU_S:
            await asyncio.sleep(0)  # the event loop runs all due tasks here
            started_at = time.thread_time()
