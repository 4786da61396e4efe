"""Long work in the event loop, in pieces: others get their turn in between.

Nothing here makes work quicker. Where it can be done in a thread instead, that is better; this is
for what has to see the daemon's state between two of its changes.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

TURN_S = 0.005  # of processor time, after which others get a turn

T = TypeVar("T")


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """Give items one after the other, and let the loop go round whenever they have taken long.

    What is true before one item need not be so before the next.
    """
    begin = time.thread_time()
    for item in list(items):
        yield item
        if time.thread_time() - begin >= TURN_S:
            await asyncio.sleep(0)  # whoever is due comes first
            begin = time.thread_time()
