"""What all tests share: waiting for a condition with a limit, and the choice of long tests.

Tests marked ``nightly`` are skipped unless the environment has ``KCONND_NIGHTLY``, which
``scripts/nightly`` sets.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable

import pytest

LIMIT = 30.0  # seconds; a test that gets there has failed


def wait_for(condition: Callable[[], object], what: str, limit: float = LIMIT) -> None:
    """Wait until a condition holds, and fail with its name where it never does."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {limit:g} s for {what}")
        time.sleep(0.01)  # the one place that waits: a condition, with a limit


async def wait_until(condition: Callable[[], object], what: str, limit: float = LIMIT) -> None:
    """Do the same in an event loop."""
    try:
        async with asyncio.timeout(limit):
            while not condition():  # noqa: ASYNC110  # conditions of other processes set no event
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"waited {limit:g} s for {what}")


def pytest_configure() -> None:
    """Make the tests independent of the machine's load and of how they were started.

    Hypothesis judges no example by wall time. A shell starts background jobs with SIGINT ignored,
    which the commands under test would inherit.
    """
    from hypothesis import HealthCheck, settings  # noqa: PLC0415  # scripts/bench does without it

    settings.register_profile("kconnd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("kconnd")
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what takes too long for each commit."""
    if os.environ.get("KCONND_NIGHTLY"):
        return
    for item in items:
        if item.get_closest_marker("nightly"):
            item.add_marker(pytest.mark.skip(reason="runs in scripts/nightly alone"))


@pytest.fixture(name="wait_for")
def _wait_for() -> Callable[..., None]:
    return wait_for


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[..., object]:
    return wait_until
