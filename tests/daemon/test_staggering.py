"""Turns: the first at once, each other a pause after the one before it."""

import asyncio

from kconnd.daemon.staggering import Pace


async def test_turns_come_one_after_the_other() -> None:
    pace, pause = Pace(0.02), 0.02
    now = asyncio.get_running_loop().time
    taken: list[float] = []

    async def wait() -> None:
        await pace.turn()
        taken.append(now())

    began = now()
    await wait()
    assert taken[0] - began < pause, "the first waits for nobody"
    await asyncio.gather(*(wait() for _ in range(4)))
    assert taken[-1] - began >= 4 * pause
    await asyncio.sleep(2 * pause)
    later = now()
    await wait()
    assert taken[-1] - later < pause, "turns that nobody took are not owed"


async def test_a_turn_comes_no_sooner_than_the_delay() -> None:
    pace, delay = Pace(0.02, delay_s=0.05), 0.05
    now = asyncio.get_running_loop().time
    began = now()
    await asyncio.gather(*(pace.turn() for _ in range(2)))
    assert now() - began >= delay + 0.02
