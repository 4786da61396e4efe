"""The process of a run is watched, also one that has ended already."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kconnd.core.launch.notebook import Run
from kconnd.daemon.kernel.run_watch import RunWatch, identify_run


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


async def test_the_end_of_a_run_is_reported_once(process: subprocess.Popen[bytes]) -> None:
    ended = asyncio.Queue[str]()
    watch = RunWatch("lab", lambda: ended.put_nowait("lab"))
    run = identify_run(process.pid)
    watch.follow(run)
    watch.follow(run)
    assert ended.empty()
    process.kill()
    assert await asyncio.wait_for(ended.get(), 10) == "lab"
    assert ended.empty()
    # The pid may belong to another process by now, which has another start time.
    watch.follow(Run(os.getpid(), run.started))
    assert await asyncio.wait_for(ended.get(), 10) == "lab"


async def test_a_run_is_forgotten_or_was_never_known() -> None:
    ended: list[str] = []
    watch = RunWatch("lab", lambda: ended.append("lab"))
    watch.follow(identify_run(0))
    watch.follow(identify_run(os.getpid()))
    watch.follow(None)
    await asyncio.sleep(0)
    assert ended == []
    assert identify_run(0) == Run()


def test_a_process_that_has_ended_is_never_alive(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    assert identify_run(process.pid) == Run(process.pid)
