"""Each event of a kernel calls its subscribers back, also after the daemon was away."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kconnd.errors import UnreachableError
from kconnd.jupyter import event_stream
from kconnd.jupyter.event_stream import EventStream
from tests.cli.fake_daemon import FakeDaemon, Stream
from tests.conftest import wait_until

EVENT = {"at": None, "kernel": "lab", "event": "backoff", "message": "it crashed"}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    folder = tempfile.TemporaryDirectory(prefix="kj-", dir="/tmp")
    with folder as path, FakeDaemon(Path(path, "s")) as daemon:
        monkeypatch.setenv("KCONND_SOCKET", str(daemon.path))
        monkeypatch.setattr(event_stream, "RETRY_DELAY_S", 0.01)
        daemon.replies["GET", "/v1/events"] = Stream((EVENT,))
        yield daemon


async def test_only_events_of_the_kernel_call_back(fake: FakeDaemon) -> None:
    stream, calls = EventStream(""), list[str]()
    unsubscribe = stream.subscribe("lab", lambda: calls.append("lab"))
    stream.subscribe("other", lambda: calls.append("other"))
    await wait_until(lambda: calls.count("lab") > 2, "the events of three streams")
    assert "other" not in calls
    unsubscribe()
    await asyncio.sleep(0)  # callbacks that were scheduled before
    calls.clear()
    asked = len(fake.requests)
    await wait_until(lambda: len(fake.requests) > asked + 2, "two more streams")
    assert calls == []


async def test_a_daemon_that_was_away_is_read_again(fake: FakeDaemon) -> None:
    fake.replies["GET", "/v1/events"] = UnreachableError("it ends")
    calls: list[str] = []
    EventStream("").subscribe("lab", lambda: calls.append("lab"))
    await wait_until(lambda: len(fake.requests) > 2, "the requests that fail")
    assert calls == []
    fake.replies["GET", "/v1/events"] = Stream((EVENT,))
    await wait_until(lambda: calls, "the event")
