"""Who listens misses nothing, whenever it happens."""

import contextlib

import pytest

from kconnd.daemon.event_log import EventBus, KernelEvent


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
