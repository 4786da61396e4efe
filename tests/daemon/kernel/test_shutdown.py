"""The orderly shutdown of a kernel, and what is reported while its exit is delayed."""

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable

import pytest

from kconnd.core.kernel.events import ExitDelayed, Lingers
from kconnd.daemon.kernel import shutdown
from kconnd.daemon.kernel.shutdown import Ending, find_delay, shut_down
from kconnd.launchers.base import Handle
from kconnd.system.process.processes import ProcessId, read_stat, state_of
from tests.conftest import LIMIT, wait_until
from tests.daemon.kernel.fakes import Reports

WITH_CHILD = "import subprocess; subprocess.run(['/bin/sleep', '60'])"


class Memory:
    """What is known of earlier processes, and what is noted of this one."""

    def __init__(self, *, stays: bool = False) -> None:
        self.stays = stays
        self.noted: list[float] = []

    async def is_known_to_stay(self) -> bool:
        return self.stays

    def note_stay(self, seconds: float) -> None:
        self.noted.append(seconds)


@pytest.fixture
async def ending() -> AsyncIterator[Ending]:
    """Start a process that waits for a child in its own process group."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WITH_CHILD, start_new_session=True
    )
    kernel = ProcessId(process.pid, read_stat(process.pid)[2])
    yield Ending(kernel, 3, "ipython")
    os.killpg(process.pid, 9)
    await process.wait()


async def test_a_child_that_delays_the_exit_is_reported_once(
    ending: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutdown, "FIRST_CHECK_S", 0)
    monkeypatch.setattr(shutdown, "FIRST_INTERVAL_S", 0.001)
    await wait_until(lambda: "sleep" in find_delay(ending)[0], "the child")
    reports, requests, checks = Reports(), [], []

    def count(checked: Ending) -> tuple[str, bool]:
        checks.append(checked)
        return find_delay(checked)

    monkeypatch.setattr(shutdown, "find_delay", count)

    async def request() -> bool:
        requests.append("shutdown_request")
        return True

    task = asyncio.create_task(shut_down(request, ending, reports.append, lambda: 0.0, Memory()))
    await wait_until(lambda: reports, "the report")
    await wait_until(lambda: len(checks) >= 3, "further checks, which see no change")
    task.cancel()
    (report,) = reports
    assert isinstance(report, ExitDelayed)
    assert (report.generation, report.children_alone) == (3, False)
    assert "sleep" in report.waits_for
    assert requests == ["shutdown_request"]


async def test_nothing_is_reported_where_the_request_could_not_be_sent(ending: Ending) -> None:
    async def request() -> bool:
        return False

    reports = Reports()
    await shut_down(request, ending, reports.append, lambda: 0.0, Memory())
    assert reports == []


@pytest.mark.parametrize(("stopped", "said"), [(True, "a signal has stopped"), (False, "hangs")])
async def test_a_shim_that_does_not_record_an_exit_is_named(
    monkeypatch: pytest.MonkeyPatch,
    stopped: bool,  # noqa: FBT001  # pytest's
    said: str,
) -> None:
    """This process takes the part of the shim: it does not collect the kernel."""
    monkeypatch.setattr(shutdown, "FIRST_CHECK_S", 0.001)
    shim = await asyncio.create_subprocess_exec("/bin/sleep", "60")
    kernel = os.posix_spawn("/bin/true", ["true"], {})  # noqa: ASYNC221  # asyncio would collect it
    started = read_stat(kernel)[2]
    place = ProcessId(shim.pid, read_stat(shim.pid)[2])
    handle = Handle("fake", 3, "boot", place, ProcessId(kernel, started), "", "")
    if stopped:
        shim.send_signal(signal.SIGSTOP)
        await wait_until(lambda: state_of(place) == "T", "it to stop")
    reports = Reports()
    await asyncio.wait_for(shutdown.watch_shim(handle, reports.append), LIMIT)
    (report,) = reports
    assert (report.generation, report.by_shim) == (3, True)
    assert f"its shim, pid {shim.pid}, which {said}" in report.waits_for
    os.waitpid(kernel, 0)  # noqa: ASYNC222  # it has exited
    assert shutdown.find_shim_delay(handle) == ""
    shim.kill()
    await shim.wait()


async def reply() -> bool:
    return True


def fast(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """Shorten the intervals; return a clock that advances by a second at each reading."""
    for name in ("FIRST_CHECK_S", "FIRST_INTERVAL_S", "LINGERING_INTERVAL_S"):
        monkeypatch.setattr(shutdown, name, 0.001)
    return itertools.count(1.0).__next__


async def test_a_kernel_that_is_known_to_stay_is_reported_once_it_rests(
    ending: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports, memory = Reports(), Memory(stays=True)
    async with asyncio.timeout(20):
        await shut_down(reply, ending, reports.append, fast(monkeypatch), memory)
    assert reports[-1] == Lingers(3)
    assert memory.noted == []


async def test_a_kernel_that_stays_for_the_first_time_is_noted_and_waited_for(
    ending: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutdown, "MAX_INTERVAL_S", 0.001)
    reports, memory = Reports(), Memory()
    clock = fast(monkeypatch)
    task = asyncio.create_task(shut_down(reply, ending, reports.append, clock, memory))
    await wait_until(lambda: memory.noted, "the note")
    await wait_until(lambda: clock() > 40, "further checks")
    task.cancel()
    assert len(memory.noted) == 1
    assert memory.noted[0] >= 5
    assert not reports.of(Lingers)


async def test_a_kernel_that_works_is_neither_reported_nor_noted(
    ending: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, looks = itertools.count(0.0, 0.5), []

    def use(_root: ProcessId) -> dict[tuple[int, int], float]:
        looks.append(next(work))
        return {(1, 1): looks[-1]}

    monkeypatch.setattr(shutdown, "tree_cpu_seconds", use)
    reports, memory = Reports(), Memory(stays=True)
    clock = fast(monkeypatch)
    task = asyncio.create_task(shut_down(reply, ending, reports.append, clock, memory))
    await wait_until(lambda: len(looks) > 10, "many checks")
    task.cancel()
    assert not reports.of(Lingers)
    assert memory.noted == []
