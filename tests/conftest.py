"""What all tests share: waiting for a condition, with a limit."""

import asyncio
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


@pytest.fixture(name="wait_for")
def _wait_for() -> Callable[..., None]:
    return wait_for


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[..., object]:
    return wait_until
