"""The orderly shutdown of a kernel, and what is reported while its exit is delayed."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import pytest

from kconnd.core.kernel.events import ExitDelayed
from kconnd.daemon.kernel import shutdown
from kconnd.daemon.kernel.shutdown import Ending, find_delay, shut_down
from kconnd.system.process.processes import ProcessId, read_stat
from tests.conftest import wait_until
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
