"""`ExternalKernel` with a fake client: which process a server's manager is connected to."""

import asyncio
from typing import Any

import pytest
from jupyter_client.ioloop.manager import AsyncIOLoopKernelManager

from kconnd.errors import UnreachableError
from kconnd.jupyter.external_restarter import ExternalKernel, start_restarter
from kconnd.jupyter.restarter import Fate, ProcessStatus
from tests.jupyter.fake_client import CONNECTION, FakeClient

KILLED = {"code": None, "signal": 9}


@pytest.fixture
def client() -> FakeClient:
    client = FakeClient()
    client.add("lab", generation=5)
    return client


@pytest.fixture
def external(client: FakeClient) -> ExternalKernel:
    manager: Any = AsyncIOLoopKernelManager(owns_kernel=False)
    manager.load_connection_info({**CONNECTION, "key": b"a-key"})
    return ExternalKernel("lab", manager, client)


async def test_the_first_answer_is_no_restart(external: ExternalKernel) -> None:
    assert await external.poll_status() == ProcessStatus(Fate.RUNNING, 5)


async def test_a_new_process_with_the_old_connection_is_a_restart(
    external: ExternalKernel, client: FakeClient
) -> None:
    await external.poll_status()
    client.add("lab", generation=5, state="backoff", last_exit=KILLED)
    assert await external.poll_status() == ProcessStatus(Fate.REPLACED, 6, 9)
    client.add("lab", generation=6)
    assert await external.poll_status() == ProcessStatus(Fate.REPLACED, 6)


@pytest.mark.parametrize(("field", "value"), [("key", "another"), ("ip", "/x"), ("hb_port", 9)])
async def test_a_process_with_another_connection_is_an_end(
    external: ExternalKernel, client: FakeClient, field: str, value: object
) -> None:
    await external.poll_status()
    client.add("lab", generation=6)
    client.connections["lab"][field] = value
    status = await external.poll_status()
    assert status is not None
    assert status.fate is Fate.ENDED


async def test_no_answer_is_no_end_and_a_removed_kernel_is_one(
    external: ExternalKernel, client: FakeClient
) -> None:
    client.error = UnreachableError("no daemon answers")
    assert await external.poll_status() is None
    client.error = None
    client.kernels.clear()
    assert await external.poll_status() == ProcessStatus(Fate.ENDED, 0)


async def test_a_crash_is_told_once(external: ExternalKernel, client: FakeClient) -> None:
    calls: list[str] = []
    assert start_restarter(external)
    assert not start_restarter(external), "one restarter is enough"
    manager = external.manager
    for event in ("restart", "dead"):
        manager.add_restart_callback(lambda event=event: calls.append(event), event)
    restarter = manager._restarter
    await restarter.poll()
    assert calls == []
    client.add("lab", generation=6, last_exit=KILLED)
    await asyncio.gather(restarter.poll(), restarter.poll())
    assert calls == ["restart"]
    client.add("lab", generation=6, state="stopped", last_exit=KILLED)
    await restarter.poll()
    assert calls == ["restart", "dead"]
    assert restarter._pcallback is None, "it polls no more"
