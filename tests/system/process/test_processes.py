"""Processes: who one is and when it ends, also where file descriptors are many, or none."""

import asyncio
import contextlib
import errno
import os
import resource
import signal
import subprocess
import threading
from collections.abc import Iterator

import pytest

from kconnd.system.process.processes import (
    ProcessId,
    is_alive,
    read_stat,
    send_signal,
    wait_for_end,
)


@pytest.fixture
def child() -> Iterator[ProcessId]:
    process = subprocess.Popen(["/bin/sleep", "1000"])
    yield ProcessId(process.pid, read_stat(process.pid)[2])
    process.kill()
    process.wait()


@contextlib.contextmanager
def limited(soft: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_a_number_that_a_thread_has_by_now_is_of_no_process() -> None:
    """Threads have numbers from the same row; pidfd_open(2) refuses those, which is no answer."""
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait, args=(30,))
    thread.start()
    try:
        assert thread.native_id is not None
        before = ProcessId(thread.native_id, read_stat(os.getpid())[2] - 1)
        assert not is_alive(before)
        assert not send_signal(before, signal.SIGTERM)
        await asyncio.wait_for(wait_for_end(before), 5)
    finally:
        go_on.set()
        thread.join()


async def test_a_number_that_another_process_has_by_now_reaches_nobody(child: ProcessId) -> None:
    before = ProcessId(child.pid, child.started - 1)
    assert not is_alive(before)
    assert not send_signal(before, signal.SIGKILL)
    async with asyncio.timeout(5):
        await wait_for_end(before)
    assert is_alive(child)


def test_a_process_can_be_known_by_any_descriptor(child: ProcessId) -> None:
    """A daemon of 130 kernels has more than 1024 of them, where select(2) ends."""
    with limited(4096), contextlib.ExitStack() as held:
        for _ in range(1100):
            held.callback(os.close, os.dup(0))
        assert is_alive(child)
        assert send_signal(child, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        assert not is_alive(child)


async def test_without_descriptors_nothing_counts_as_gone(child: ProcessId) -> None:
    free = os.dup(0)
    os.close(free)
    waiting = asyncio.create_task(wait_for_end(child))
    with limited(free):
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            is_alive(child)
        await asyncio.sleep(0)
        assert not waiting.done()
    assert is_alive(child)
    send_signal(child, signal.SIGKILL)
    async with asyncio.timeout(10):
        await waiting
