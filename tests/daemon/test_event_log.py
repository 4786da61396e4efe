"""Who listens misses nothing, whenever it happens."""

import asyncio
import contextlib

import pytest

from kconnd.daemon.event_log import EventBus, KernelEvent
from tests.conftest import wait_until


@pytest.mark.parametrize("follow", [False, True])
async def test_what_happens_while_the_past_is_told_is_told_after_it(follow: bool) -> None:  # noqa: FBT001  # pytest's
    bus = EventBus()
    for number in range(3):
        bus.publish(KernelEvent(number, "lab", "running", ""))
    told = []
    async with contextlib.aclosing(bus.subscribe(follow=follow)) as listening:
        async for happening in listening:
            told.append(happening.at)
            if happening.at == 0:
                bus.publish(KernelEvent(3, "lab", "stopped", ""))  # its reader was slow
            if happening.at == 3:
                break
    assert told == ([0, 1, 2, 3] if follow else [0, 1, 2])


async def test_a_change_since_the_last_look_is_not_waited_for() -> None:
    bus = EventBus()
    seen = bus.count
    bus.publish(KernelEvent(1, "lab", "running", ""))
    await asyncio.wait_for(bus.wait_for_change(600, seen), 20)


async def test_without_a_change_the_next_event_is_waited_for() -> None:
    bus = EventBus()
    waiting = asyncio.create_task(bus.wait_for_change(600, bus.count))
    await wait_until(lambda: bus._next._waiters, "it to wait for an event", limit=5.0)
    bus.publish(KernelEvent(1, "lab", "running", ""))
    await asyncio.wait_for(waiting, 20)
