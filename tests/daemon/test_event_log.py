"""Who listens misses nothing, whenever it happens."""

import contextlib

import pytest

from kconnd.daemon.event_log import EventBus, Happening


@pytest.mark.parametrize("follow", [False, True])
async def test_what_happens_while_the_past_is_told_is_told_after_it(follow: bool) -> None:  # noqa: FBT001  # pytest's
    bus = EventBus()
    for number in range(3):
        bus.tell(Happening(number, "lab", "running", ""))
    told = []
    async with contextlib.aclosing(bus.listen(follow=follow)) as listening:
        async for happening in listening:
            told.append(happening.at)
            if happening.at == 0:
                bus.tell(Happening(3, "lab", "stopped", ""))  # its reader was slow
            if happening.at == 3:
                break
    assert told == ([0, 1, 2, 3] if follow else [0, 1, 2])
