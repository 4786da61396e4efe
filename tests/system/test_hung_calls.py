"""Calls that hang: they hold up nobody else, not even the end of the program."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from kconnd.errors import TimedOutError
from kconnd.system.hung_calls import BeginStep, PathSteps, StuckError, ThreadPerCallExecutor
from tests.conftest import wait_for, wait_until

LIMIT_S = 2.0  # in which a thread gets its turn on the busiest machine


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Give what all hanging calls of a test wait for."""
    found = threading.Event()
    yield found
    found.set()


async def test_what_hangs_is_given_up_by_name_and_not_tried_by_others(
    gate: threading.Event,
) -> None:
    paths, went_on = PathSteps(LIMIT_S, LIMIT_S), []

    def read(begin: BeginStep) -> None:
        begin("reading /near")
        begin("reading /far")
        gate.wait()
        begin("reading /next")
        went_on.append("nobody waits for that any more")

    with pytest.raises(StuckError, match="reading /far: the disk or file server does not"):
        await paths.run(read)
    assert paths.stuck == ["reading /far"]
    threads = threading.active_count()
    with pytest.raises(StuckError, match="reading /far"):
        await paths.run(read)
    await wait_until(lambda: threading.active_count() == threads, "the second thread to end")
    gate.set()
    await wait_until(lambda: not paths.stuck, "it to be forgotten once it answers")
    await paths.run(lambda begin: begin("reading /far"))
    assert not went_on


async def test_what_makes_progress_may_take_long() -> None:
    paths = PathSteps(LIMIT_S)

    def read(begin: BeginStep) -> int:
        for number in range(10):
            begin(f"reading {number}")
            time.sleep(LIMIT_S / 8)  # a disk that is slow
        return number

    assert await paths.run(read) == 9


async def test_an_error_is_the_callers() -> None:
    def read(begin: BeginStep) -> None:
        begin("reading /none")
        raise FileNotFoundError("/none")

    paths = PathSteps()
    with pytest.raises(FileNotFoundError):
        await paths.run(read)
    assert paths.stuck == []


async def test_calls_during_a_shared_run_share_the_next_one(gate: threading.Event) -> None:
    paths, runs = PathSteps(), []

    def read(begin: BeginStep) -> int:
        runs.append(begin)
        gate.wait()
        return len(runs)

    first = asyncio.ensure_future(paths.run_shared("spec", read))
    await wait_until(lambda: bool(runs), "the first run")
    later = [asyncio.ensure_future(paths.run_shared("spec", read)) for _ in range(5)]
    other = asyncio.ensure_future(paths.run_shared("another spec", read))
    await wait_until(lambda: len(runs) == 2, "the run with another key")
    later[0].cancel()  # which ends its own wait alone
    gate.set()
    assert await first in {1, 2}
    await other
    assert await asyncio.gather(*later[1:]) == [3] * 4
    assert await paths.run_shared("spec", read) == 4


async def test_the_error_of_a_shared_run_is_each_callers_and_ends_with_it() -> None:
    paths, runs = PathSteps(), []

    def read(begin: BeginStep) -> None:
        runs.append(begin)
        raise FileNotFoundError("/none")

    calls = [paths.run_shared("spec", read) for _ in range(3)]
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in errors] == [FileNotFoundError] * 3
    assert len(runs) == 1
    with pytest.raises(FileNotFoundError):
        await paths.run_shared("spec", read)
    assert len(runs) == 2


def test_there_are_only_so_many(gate: threading.Event) -> None:
    threads = ThreadPerCallExecutor(3)
    futures = [threads.submit(gate.wait) for _ in range(3)]
    with pytest.raises(TimedOutError, match="3 calls of the daemon wait"):
        threads.submit(gate.wait)
    gate.set()
    assert all(future.result(5) for future in futures)

    def there_is_room() -> bool:
        try:
            return threads.submit(lambda: True).result(5)
        except TimedOutError:
            return False

    wait_for(there_is_room, "room for the next")


def test_a_program_ends_although_calls_hang() -> None:
    code = (
        "import asyncio, threading\n"
        "from kconnd.system.hung_calls import ThreadPerCallExecutor\n"
        "async def main():\n"
        "    asyncio.get_running_loop().set_default_executor(ThreadPerCallExecutor())\n"
        "    call = asyncio.to_thread(threading.Event().wait)\n"
        "    await asyncio.wait({asyncio.ensure_future(call)}, timeout=0.1)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], timeout=20, check=False)
    assert done.returncode == 0


async def test_it_serves_asyncio(gate: threading.Event) -> None:
    """More calls at once than a pool of asyncio's own has threads."""
    asyncio.get_running_loop().set_default_executor(ThreadPerCallExecutor())
    hung = [asyncio.ensure_future(asyncio.to_thread(gate.wait)) for _ in range(50)]
    assert await asyncio.wait_for(asyncio.to_thread(str, 7), 5) == "7"
    gate.set()
    assert all(await asyncio.gather(*hung))
