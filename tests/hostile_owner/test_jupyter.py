"""A Jupyter whose kernel spec names a kernel of a hostile owner."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from tornado.web import HTTPError

from kconnd.errors import KconndError
from kconnd.jupyter.provisioner import KconndProvisioner
from kconnd.jupyter.restarter import ProcessStatus
from kconnd.jupyter.server import KconndMappingKernelManager, as_http_error
from tests.hostile_owner.machine import EVE, NAME, TIMES, Machine
from tests.hostile_owner.replies import CONNECTION, SOUND, framed, hostile_replies
from tests.hostile_owner.test_verbs import answer, check_files, check_sockets, tree

WHO = f"{EVE}/{NAME}"
SOME = settings(
    max_examples=30 * TIMES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def provisioner_of(manager: AsyncKernelManager) -> KconndProvisioner:
    return KconndProvisioner(kernel_id="x", kernel_spec=KernelSpec(), parent=manager, profile=WHO)


@pytest.mark.parametrize("hostile", [0, 1], ids=["start", "connection"])
@SOME
@given(data=st.data())
async def test_a_manager_learns_of_no_port_that_is_not_that_owners(
    machine: Machine, hostile: int, data: st.DataObject
) -> None:
    machine.clear()
    routes = ("start", "connection")
    replies: list[Any] = [framed(SOUND[verb]) for verb in routes]
    replies[hostile] = data.draw(hostile_replies(routes[hostile], str(machine.folder)))
    answer(machine.eve, routes, replies)
    manager = AsyncKernelManager()
    before = tree(machine.folder)
    with machine.watched() as seen, pytest.raises(KconndError):
        await provisioner_of(manager).pre_launch(env={})
    check_sockets(machine, seen.connected, routes)
    check_files(machine, seen.opened, before, tree(machine.folder))
    known: dict[str, Any] = dict(manager.get_connection_info())
    assert [known[f"{one}_port"] for one in ("shell", "iopub", "stdin", "control", "hb")] == [0] * 5


@SOME
@given(data=st.data())
async def test_a_look_at_the_kernel_is_an_answer_or_none(
    machine: Machine, data: st.DataObject
) -> None:
    machine.clear()
    routes = ("", "connection")
    replies = [data.draw(hostile_replies(verb, str(machine.folder))) for verb in routes]
    answer(machine.eve, routes, replies)
    provisioner = provisioner_of(AsyncKernelManager())
    await provisioner.load_provisioner_info(
        {"kernel": WHO, "generation": 1, "connection": CONNECTION}
        | {"kernel_id": "x", "connection_info": {}}
    )
    with machine.watched() as seen:
        status = await provisioner.poll_status()
        code = await provisioner.poll()
    assert status is None or isinstance(status, ProcessStatus)
    assert code is None or isinstance(code, int)
    check_sockets(machine, seen.connected, routes)
    assert provisioner.generation >= 1


async def test_a_shutdown_asks_nobody_else(machine: Machine) -> None:
    provisioner = provisioner_of(AsyncKernelManager())
    provisioner.user_requested_shutdown = True
    with contextlib.suppress(KconndError):
        await provisioner.cleanup()
    assert machine.own.requests == machine.front.requests == machine.eve.requests == []


@given(st.text(st.characters()))
def test_an_error_is_one_line_of_a_status_line(message: str) -> None:
    with pytest.raises(HTTPError) as caught, as_http_error():
        raise KconndError(message, hint=message)
    reason = caught.value.reason or ""
    assert reason.isascii()
    assert reason.isprintable() or not reason
    assert "<" not in reason
    assert len(reason) <= 300


@pytest.mark.parametrize(
    "name", [f"{EVE}/{NAME}", "a b", "../x", "", 7, None, [NAME], {"x": 1}, "a\r\nb", "@"]
)
def test_a_published_file_names_a_kernel_of_ones_own(tmp_path: Path, name: object) -> None:
    file = tmp_path / "kernel.json"
    manager = KconndMappingKernelManager()
    manager.kernel_id_to_connection_file["x"] = file
    file.write_text(json.dumps({"kconnd": name, "kconnd_machine": "m"}), encoding="utf-8")
    assert manager._read_published("x") is None  # every method of it uses this one
    file.write_text(json.dumps({"kconnd": NAME, "kconnd_machine": "m"}), encoding="utf-8")
    assert manager._read_published("x") == (NAME, False)  # on another machine
