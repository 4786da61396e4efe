"""The orderly shutdown of a kernel, and what is reported while its exit is delayed."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from kconnd.core.kernel.events import ExitDelayed
from kconnd.daemon.kernel import shutdown
from kconnd.daemon.kernel.shutdown import Ending, find_delay, shut_down
from kconnd.launchers.base import Handle
from kconnd.system.process.processes import ProcessId, read_stat, state_of
from tests.conftest import LIMIT, wait_until
from tests.daemon.kernel.fakes import Reports

WITH_CHILD = "import subprocess; subprocess.run(['/bin/sleep', '60'])"


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

    task = asyncio.create_task(shut_down(request, ending, reports.append, lambda: 0.0))
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
    await shut_down(request, ending, reports.append, lambda: 0.0)
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
