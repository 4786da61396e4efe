"""Divides long work in the event loop into turns, between which other tasks run.

It makes no work quicker. Work that a thread can do belongs in a thread; this is for loops that
need the daemon's state to stay the same within one iteration.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

TURN_CPU_S = 0.005  # processor time after which other tasks run

T = TypeVar("T")


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield items, and let other tasks run whenever the caller has used up its turn.

    The daemon's state may differ from one item to the next.
    """
    started_at = time.thread_time()
    for item in list(items):
        yield item
        if time.thread_time() - started_at >= TURN_CPU_S:
            await asyncio.sleep(0)  # lets the loop run all tasks that are due
            started_at = time.thread_time()
