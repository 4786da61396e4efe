"""`process_status` as a table, and the callbacks of `KconndRestarter`."""

from typing import Any

import pytest
from jupyter_client.ioloop.manager import AsyncIOLoopKernelManager
from jupyter_client.manager import AsyncKernelManager

from kconnd.jupyter.restarter import (
    Fate,
    KconndRestarter,
    ProcessStatus,
    leave_restarts_to_daemon,
    process_status,
)

EXITED_3 = {"code": 3, "signal": None}
RESTARTED = {"code": 0, "signal": None, "requested": True}
KILLED = {"code": None, "signal": 9}


@pytest.mark.parametrize(
    ("state", "generation", "last_exit", "same_connection", "status"),
    [
        ("running", 1, None, True, ProcessStatus(Fate.RUNNING, 1)),
        ("starting", 1, None, True, ProcessStatus(Fate.RUNNING, 1)),
        ("running", 2, KILLED, True, ProcessStatus(Fate.REPLACED, 2)),
        ("launching", 2, KILLED, True, ProcessStatus(Fate.REPLACED, 2)),
        ("running", 2, RESTARTED, True, ProcessStatus(Fate.REPLACED, 2, requested=True)),
        ("running", 2, KILLED, False, ProcessStatus(Fate.ENDED, 2)),
        ("backoff", 1, EXITED_3, True, ProcessStatus(Fate.REPLACED, 2, 3)),
        ("stopped", 1, KILLED, True, ProcessStatus(Fate.ENDED, 1, 9)),
        ("failed", 1, EXITED_3, True, ProcessStatus(Fate.ENDED, 1, 3)),
        ("lost", 1, None, True, ProcessStatus(Fate.ENDED, 1, 0)),
    ],
)
def test_the_status_of_an_attached_process(
    state: str,
    generation: int,
    last_exit: object,
    same_connection: object,
    status: ProcessStatus,
) -> None:
    kernel = {"state": state, "generation": generation, "last_exit": last_exit}
    kernel |= {"name": "lab", "reason": "a reason"}
    assert process_status(kernel, 1, same_connection=bool(same_connection)) == status


def test_a_status_says_when_the_last_process_ended() -> None:
    last_exit = {**RESTARTED, "at": "1970-01-01T00:01:00.500000Z"}
    kernel = {"name": "lab", "state": "running", "generation": 2, "last_exit": last_exit}
    kernel["reason"] = "it answered"
    assert process_status(kernel, 1, same_connection=True).ended_at == 60.5


class Provisioner:
    """Gives one status after the other."""

    generation = 1
    kernel = "lab"

    def __init__(self) -> None:
        self.status: ProcessStatus | None = None

    async def poll_status(self) -> ProcessStatus | None:
        return self.status

    async def reason_of_end(self) -> str:
        return "restart was requested by eve"


async def test_listeners_learn_of_a_new_process_and_that_it_is_ready() -> None:
    manager: Any = AsyncIOLoopKernelManager()
    manager.execution_state = "busy"  # as a Jupyter server keeps it
    provisioner = manager.provisioner = Provisioner()
    restarter = KconndRestarter(kernel_manager=manager)
    calls: list[tuple[int, bool, bool]] = []
    texts: list[str] = []

    def listen(status: ProcessStatus, *, is_new: bool) -> None:
        calls.append((status.generation, status.is_ready, is_new))
        texts.append(status.text)

    restarter.listeners.append(listen)
    restarter.start()
    for fate, generation, is_ready in (
        (Fate.RUNNING, 1, True),
        (Fate.REPLACED, 2, False),
        (Fate.REPLACED, 2, True),
        (Fate.REPLACED, 2, True),
        (Fate.ENDED, 2, False),
    ):
        provisioner.status = ProcessStatus(fate, generation, requested=True, is_ready=is_ready)
        await restarter.poll()
    assert calls == [(2, False, True), (2, True, False), (2, False, True)]
    assert texts[0] == "lab was restarted (restart was requested by eve): its variables are gone"
    assert manager.execution_state == "idle", "that of the new process"


async def test_front_ends_learn_of_each_restart_once_and_of_the_end() -> None:
    manager: Any = AsyncIOLoopKernelManager()
    provisioner = manager.provisioner = Provisioner()
    restarter = KconndRestarter(kernel_manager=manager)
    calls: list[str] = []
    for event in ("restart", "dead"):
        restarter.add_callback(lambda event=event: calls.append(event), event)
    restarter.start()
    for fate, generation in (
        (Fate.RUNNING, 1),
        (Fate.REPLACED, 2),
        (Fate.RUNNING, 2),
        (Fate.REPLACED, 3),
    ):
        provisioner.status = ProcessStatus(fate, generation)
        await restarter.poll()
    provisioner.status = ProcessStatus(Fate.REPLACED, 4, requested=True)
    await restarter.poll()
    assert calls == ["restart", "restart"], "a requested restart opens no dialog"
    provisioner.status = None  # no answer is no end
    await restarter.poll()
    assert calls == ["restart", "restart"]
    provisioner.status = ProcessStatus(Fate.ENDED, 3)
    manager.shutting_down = True
    await restarter.poll()
    assert calls == ["restart", "restart"]
    manager.shutting_down = False
    await restarter.poll()
    assert calls == ["restart", "restart", "dead"]
    assert restarter._pcallback is None, "it polls no more"


def test_no_manager_restarts_by_itself() -> None:
    serving, plain = AsyncIOLoopKernelManager(), AsyncKernelManager(autorestart=True)
    for manager in (serving, plain):
        leave_restarts_to_daemon(manager)
    assert serving.restarter_class is KconndRestarter
    assert not plain.autorestart
