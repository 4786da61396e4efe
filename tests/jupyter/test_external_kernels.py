"""`KconndMappingKernelManager` with a fake client: kernels that a daemon has published."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.connect import write_connection_file
from tornado.web import HTTPError

from kconnd.attach import this_machine
from kconnd.errors import NotRunningError, UnreachableError
from kconnd.jupyter.server import KconndMappingKernelManager
from tests.jupyter.fake_client import FakeClient


@pytest.fixture
def client() -> FakeClient:
    client = FakeClient()
    client.add("lab", execution_state="busy", last_activity="2026-11-23T09:50:00+00:00")
    return client


@pytest.fixture
def manager(tmp_path: Path, client: FakeClient) -> Any:
    """Give a server's manager, which lists the published kernel ``lab``."""
    publish(tmp_path, "lab")
    manager = KconndMappingKernelManager(external_connection_dir=str(tmp_path))
    manager._daemon = client
    manager.list_kernel_ids()
    return manager


def publish(folder: Path, name: str, machine: str = "", file_name: str = "") -> None:
    file = folder / f"{file_name or name}.json"
    write_connection_file(str(file))
    fields = {"kernel_name": "python3", "kconnd": name}
    content = json.loads(file.read_text()) | fields
    file.write_text(json.dumps(content | {"kconnd_machine": machine or this_machine()}))


async def test_a_published_kernel_is_listed_with_its_present_state(manager: Any) -> None:
    (model,) = await manager.list_kernels()
    assert (model["execution_state"], model["connections"]) == ("busy", 2)
    assert model["last_activity"] == "2026-11-23T09:50:00+00:00"
    assert manager.get_kernel(model["id"]).execution_state == "busy"
    assert await manager.kernel_model(model["id"]) == model


async def test_kernels_have_their_own_names_and_ids_that_last(tmp_path: Path) -> None:
    """All of them run Python, and a restarted server knows them by the same ids."""
    names = ["analysis", "night-run", "night_run", "each@nb.1"]

    def listed() -> dict[str, str]:
        manager = KconndMappingKernelManager(external_connection_dir=str(tmp_path))
        ids = manager.list_kernel_ids()
        assert manager.list_kernel_ids() == ids
        assert [manager.get_kernel(kernel_id).kernel_id for kernel_id in ids] == ids
        return {manager.get_kernel(kernel_id).kernel_name: kernel_id for kernel_id in ids}

    for name in names:
        publish(tmp_path, name)
    first = listed()
    assert sorted(first) == sorted(names)
    assert len(set(first.values())) == len(names)
    assert all(re.fullmatch(r"\w+-\w+-\w+-\w+-\w+", kernel_id) for kernel_id in first.values())
    assert first["analysis"].startswith("analysis-")
    assert listed() == first


async def test_a_new_file_of_a_kernel_takes_its_id_over(manager: Any, tmp_path: Path) -> None:
    """A daemon publishes a kernel with a new key under a new file name."""
    (before,) = manager.list_kernel_ids()
    publish(tmp_path, "lab", file_name="lab-2")
    assert len(manager.list_kernel_ids()) == 2
    (tmp_path / "lab.json").unlink()
    manager.list_kernel_ids()
    assert manager.list_kernel_ids() == [before]
    assert manager.kernel_id_to_connection_file[before].stem == "lab-2"


@pytest.mark.parametrize("state", ["stopped", "failed", "lost"])
async def test_a_kernel_that_has_ended_is_not_listed(
    manager: Any, client: FakeClient, state: str
) -> None:
    client.kernels["lab"]["state"] = state
    assert await manager.list_kernels() == []
    client.kernels.clear()
    assert await manager.list_kernels() == []


async def test_a_kernel_without_an_activity_is_restarting(manager: Any, client: FakeClient) -> None:
    client.kernels["lab"]["execution_state"] = None
    (model,) = await manager.list_kernels()
    assert model["execution_state"] == "restarting"


async def test_a_kernel_of_another_machine_is_not_listed(
    manager: Any, client: FakeClient, tmp_path: Path
) -> None:
    publish(tmp_path, "far", "another")
    client.add("far")
    manager.list_kernel_ids()
    assert len(await manager.list_kernels()) == 1


async def test_a_daemon_that_does_not_answer_leaves_the_list_as_it_is(
    manager: Any, client: FakeClient
) -> None:
    client.error = UnreachableError("no daemon answers")
    assert len(await manager.list_kernels()) == 1


async def test_commands_go_to_the_daemon(manager: Any, client: FakeClient) -> None:
    (kernel_id,) = manager.list_kernel_ids()
    await manager.interrupt_kernel(kernel_id)
    await manager.restart_kernel(kernel_id)
    assert client.commands == [("lab", "interrupt"), ("lab", "restart")]
    client.error = NotRunningError("lab is not running", hint="start it")
    with pytest.raises(HTTPError) as caught:
        await manager.interrupt_kernel(kernel_id)
    assert (caught.value.status_code, caught.value.reason) == (409, "lab is not running")


@pytest.mark.parametrize(("on_shutdown", "commands"), [("stop", [("lab", "stop")]), ("detach", [])])
async def test_a_user_stops_a_kernel_if_its_profile_says_so(
    manager: Any, client: FakeClient, on_shutdown: str, commands: list[tuple[str, str]]
) -> None:
    client.profiles["lab"] = {"on_frontend_shutdown": on_shutdown}
    (kernel_id,) = manager.list_kernel_ids()
    await manager.shutdown_kernel(kernel_id)
    assert client.commands == commands


async def test_a_server_that_culls_or_exits_stops_nothing(manager: Any, client: FakeClient) -> None:
    client.profiles["lab"] = {"on_frontend_shutdown": "stop"}
    (kernel_id,) = manager.list_kernel_ids()
    manager.get_kernel(kernel_id).execution_state = "dead"  # culled at once
    await manager.cull_kernel_if_idle(kernel_id)
    assert client.commands == []
    await manager.shutdown_kernel(kernel_id)
    assert client.commands == [("lab", "stop")], "a user can still stop it"
    await manager.shutdown_all()
    assert client.commands == [("lab", "stop")]
