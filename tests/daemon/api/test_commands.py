"""Routes that act on kernels: the checks before the action, and the errors after it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kconnd.core.access import Peer, Right
from kconnd.core.kernel.events import StartRequested, Step
from kconnd.core.kernel.lifecycle import LIVE, Desired, State
from kconnd.core.launch.notebook import Notebook
from kconnd.core.profile.model import Access, Profile
from kconnd.core.qtconsole_command import SESSION_VARIABLES
from kconnd.daemon.api import commands
from kconnd.daemon.qtconsoles import QtConsole
from kconnd.errors import (
    InterruptIgnoredError,
    NoSuchKernelError,
    NotRunningError,
    RefusedError,
    StartFailedError,
    StateFileError,
    StopFailedError,
    UsageError,
)
from kconnd.launchers.base import ExitStatus
from kconnd.system.launch_files import read_launch_files
from kconnd.system.process.processes import ProcessId, read_stat, state_of
from tests.conftest import LIMIT, wait_until
from tests.daemon.fakes import LAB, STRANGER, House, house_in
from tests.daemon.kernel.fakes import FakeChannels
from tests.launchers.fake import NOBODY

ON_DEMAND = {"on_demand": True}
NO_WAIT = {"wait": False}
MANUAL = LAB.model_copy(update={"name": "manual", "start": "manual"})
FAILING = Profile(
    name="failing", argv=("/bin/kernel", "{connection_file}", "exit 3"), restart={"policy": "no"}
)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with house_in(tmp_path, LAB, MANUAL, FAILING) as house:
        yield house


async def test_a_start_replies_once_the_kernel_is_ready(house: House) -> None:
    house.may_answer.clear()
    start = asyncio.create_task(_start(house, "lab"))
    await house.reach("lab", State.STARTING)
    assert not start.done()
    house.may_answer.set()
    assert await start == "running"


async def _start(house: House, name: str) -> object:
    reply = await commands.start(house.request(name))
    assert isinstance(reply, dict)
    return reply["state"]


async def test_a_start_without_wait_replies_before_the_kernel_is_ready(house: House) -> None:
    house.may_answer.clear()
    await commands.start(house.request("lab", body=NO_WAIT))
    assert house.kernels.find("lab").kernel.state is not State.RUNNING


async def test_a_start_that_fails_is_an_error(house: House) -> None:
    with pytest.raises(StartFailedError, match=r"starting failing: .* code 3"):
        await commands.start(house.request("failing"))


async def test_a_manual_kernel_is_not_started_on_demand_and_counts_once_it_runs(
    house: House,
) -> None:
    with pytest.raises(NotRunningError, match="its profile says start: manual"):
        await commands.start(house.request("manual", body=ON_DEMAND))
    assert house.launcher.launched == []
    assert await _start(house, "manual") == "running"
    await commands.start(house.request("manual", body=ON_DEMAND))
    assert len(house.launcher.launched) == 1


@pytest.mark.parametrize("body", [{}, ON_DEMAND])
async def test_who_may_connect_starts_on_demand_and_is_told_who_may_do_more(
    house: House, body: dict[str, bool]
) -> None:
    access = Access(connect=("eve",), manage=("bob", "@ops"))
    lab, manual = (one.model_copy(update={"access": access}) for one in (LAB, MANUAL))
    house.hold(lab, manual)
    await house.kernels.reload()
    await commands.start(house.request("lab", peer=STRANGER, body=body))
    assert house.kernels.find("lab").kernel.state is State.RUNNING
    with pytest.raises(RefusedError, match="its profile says start: manual") as caught:
        await commands.start(house.request("manual", peer=STRANGER, body=body))
    managers = f"ask {house.world.user.name}, bob or the group ops, who may manage it"
    assert caught.value.hint == managers
    with pytest.raises(NoSuchKernelError, match="there is no kernel lab@x") as unknown:
        await commands.start(house.request("lab@x", peer=STRANGER, body=body))
    assert unknown.value.hint == managers
    with pytest.raises(RefusedError, match="may not manage lab") as refused:
        house.request("lab", peer=STRANGER).authorise(Right.MANAGE)
    assert refused.value.hint == managers
    assert len(house.launcher.launched) == 1


async def test_a_start_on_demand_cancels_no_stop_of_a_manual_kernel(house: House) -> None:
    house.launcher.ignores = set(Step)
    await _start(house, "manual")
    await commands.stop(house.request("manual", body=NO_WAIT))
    with pytest.raises(NotRunningError, match="manual is stopping, and its profile says start"):
        await commands.start(house.request("manual", body=ON_DEMAND))
    assert house.kernels.find("manual").kernel.desired is Desired.DOWN


async def test_a_stop_that_a_start_cancels_says_so_at_once(house: House) -> None:
    house.launcher.ignores = set(Step)
    await _start(house, "lab")
    stop = asyncio.create_task(commands.stop(house.request("lab")))
    await house.reach("lab", State.STOPPING)
    await commands.start(house.request("lab", body=NO_WAIT))
    with pytest.raises(StopFailedError, match="stopping lab: another request has cancelled"):
        await asyncio.wait_for(stop, LIMIT)


async def test_a_refusal_does_not_reveal_the_managers_to_those_who_may_not_see(
    house: House,
) -> None:
    house.hold(LAB.model_copy(update={"access": Access(manage=("bob",))}))
    await house.kernels.reload()
    for name in ("lab", "nosuch"):
        with pytest.raises(RefusedError) as caught:
            house.request(name, peer=STRANGER).authorise(Right.SEE)
        assert caught.value.hint == f"ask {house.world.user.name}"


async def test_a_stop_replies_once_the_kernel_has_ended(house: House) -> None:
    await _start(house, "lab")
    reply = await commands.stop(house.request("lab"))
    assert isinstance(reply, dict)
    assert reply["state"] == "stopped"


@pytest.mark.parametrize(
    ("peer", "requester"),
    [
        (Peer(os.geteuid(), 7, "ada"), ""),
        (STRANGER, " by eve"),
        (Peer(STRANGER.uid, 7), f" by uid {STRANGER.uid}"),
    ],
)
async def test_a_reason_names_a_requester_other_than_the_owner(
    house: House, peer: Peer, requester: str
) -> None:
    await _start(house, "lab")
    await commands.restart(house.request("lab", peer=peer))
    reasons = [decision.reason for decision in house.kernels.find("lab").record.decisions]
    assert f"restart was requested{requester}" in reasons
    stopped = await commands.stop(house.request("lab", peer=peer))
    assert isinstance(stopped, dict)
    # On a machine under load, the kernel may outlast the SIGTERM of such a short stop_timeout.
    assert stopped["reason"].startswith(f"stop was requested{requester}; it took SIG")


async def test_the_owners_front_end_says_where_a_notebook_is(house: House) -> None:
    sent = {"folder": "/h", "name": "/h/one.ipynb", "file": "1-1"}
    await commands.start(house.request("lab", body={"notebook": sent, "is_run": True}))
    record = house.kernels.find("lab").record
    assert record.notebook == Notebook("/h", "/h/one.ipynb", "1-1"), "a shared kernel has no run"
    moved = {**sent, "name": "/h/two.ipynb"}
    await commands.move_notebook(house.request("lab", body={"notebook": moved}))
    actor = house.kernels.find("lab")
    await actor.until(lambda record: record.notebook == Notebook("/h", "/h/two.ipynb", "1-1"))
    with pytest.raises(RefusedError):
        await commands.move_notebook(house.request("lab", peer=STRANGER, body={"notebook": sent}))
    await commands.stop(house.request("lab"))
    await commands.start(house.request("lab", peer=STRANGER, body={"notebook": sent}))
    assert actor.record.notebook == Notebook("/h", "/h/two.ipynb", "1-1")


async def test_a_stop_that_fails_names_a_shim_that_records_no_exit(house: House) -> None:
    await _start(house, "lab")
    actor = house.kernels.find("lab")
    exited = os.posix_spawn("/bin/true", ["true"], {})  # noqa: ASYNC221  # asyncio would collect it
    kernel = ProcessId(exited, read_stat(exited)[2])
    await wait_until(lambda: state_of(kernel) == "Z", "its exit")
    assert actor.process.handle is not None
    actor.process.handle = replace(actor.process.handle, kernel=kernel)
    error = commands._stop_failed(actor)
    os.waitpid(exited, 0)  # noqa: ASYNC222  # it has exited
    assert f"it waits for its shim, pid {NOBODY + 1}, which hangs" in error.message


async def test_a_stop_that_nothing_ends_names_what_is_left(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ENDED_CHILDREN_TIMEOUT_S", "KILL_PATIENCE_S"):
        monkeypatch.setattr(commands, name, 0.05)
    house.launcher.ignores = set(Step)
    await _start(house, "lab")
    left = rf"stopping lab: after \w+ there is still {NOBODY + 1} "
    with pytest.raises(StopFailedError, match=left):
        await commands.stop(house.request("lab"))
    assert house.kernels.find("lab").kernel.state in LIVE


@pytest.mark.parametrize(("now", "waits"), [(False, True), (True, False)])
async def test_a_stop_waits_for_its_turn_unless_it_is_urgent(
    house: House,
    now: bool,  # noqa: FBT001  # pytest's
    waits: bool,  # noqa: FBT001  # pytest's
) -> None:
    await _start(house, "lab")
    turns, taken = house.kernels.stop_turns, 0
    while not turns._free.locked():
        await turns._free.acquire()
        taken += 1
    stop = asyncio.create_task(commands.stop(house.request("lab", body={"now": now})))
    if waits:
        await wait_until(lambda: turns._free._waiters, "the stop to wait for its turn")
        assert house.kernels.find("lab").kernel.state is State.RUNNING
        for _ in range(taken):
            turns._free.release()
    await stop
    assert house.kernels.find("lab").kernel.state not in LIVE


async def test_a_restart_launches_a_new_process(house: House) -> None:
    await _start(house, "lab")
    await commands.restart(house.request("lab"))
    assert [plan.generation for plan in house.launcher.launched] == [1, 2]


async def test_a_restart_without_room_on_the_disk_leaves_the_kernel_running(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_folder: Path, _size: int) -> None:
        raise OSError("no space left on device")

    await _start(house, "lab")
    monkeypatch.setattr(commands, "try_to_write", fail)
    with pytest.raises(StateFileError, match="restarting lab: a new process could not be launched"):
        await commands.restart(house.request("lab"))
    assert house.kernels.find("lab").kernel.state is State.RUNNING
    assert len(house.launcher.launched) == 1


async def test_an_interrupt_is_sent_to_a_running_kernel_only(house: House) -> None:
    with pytest.raises(NotRunningError, match="interrupting lab: it is stopped"):
        await commands.interrupt(house.request("lab"))
    house.may_answer.clear()
    await house.kernels.find("lab").ask(StartRequested())
    await house.reach("lab", State.STARTING)
    with pytest.raises(NotRunningError, match="it is starting and runs no cell") as caught:
        await commands.interrupt(house.request("lab"))
    assert "kconnd-ctl wait lab" in caught.value.hint, "who may only connect can do that, too"
    assert house.launcher.signals == []
    house.may_answer.set()
    await house.reach("lab", State.RUNNING)
    channels = await _begin_cell(house)
    assert await _interrupt(house, wait=False) == "sent"
    assert house.launcher.signals == [signal.SIGINT]
    channels.say("cell", "idle")


async def _begin_cell(house: House, subshell: str = "") -> FakeChannels:
    channels = house.channels[-1]
    await wait_until(lambda: channels.seen, "it to be listened to")
    channels.say("cell", "busy", subshell)
    return channels


async def _interrupt(house: House, *, wait: bool = True) -> object:
    reply = await commands.interrupt(house.request("lab", body={"wait": wait}))
    assert isinstance(reply, dict)
    return reply["interrupt"]


async def test_an_idle_kernel_is_not_interrupted(house: House) -> None:
    await _start(house, "lab")
    assert await _interrupt(house) == "idle"
    assert house.launcher.signals == []


async def test_an_idle_kernel_that_does_not_answer_is_interrupted(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last status proves nothing."""
    monkeypatch.setattr(commands, "IDLE_CHECK_S", 0.02)
    await _start(house, "lab")
    house.may_answer.clear()
    with monkeypatch.context() as patch:
        patch.setattr(commands, "INTERRUPT_WATCH_S", 0.1)
        with pytest.raises(InterruptIgnoredError, match="has not answered on its shell channel"):
            await _interrupt(house)
    assert house.launcher.signals == [signal.SIGINT]
    interrupt = asyncio.create_task(_interrupt(house))
    await wait_until(lambda: len(house.launcher.signals) == 2, "the interrupt")
    house.may_answer.set()
    assert await interrupt == "sent"


async def test_a_kernel_that_answers_may_have_been_interrupted(house: House) -> None:
    """Its messages may have been lost, so it is not known whether a cell ran."""
    await _start(house, "lab")
    await wait_until(lambda: house.channels[-1].seen, "it to be listened to")
    house.channels[-1].lose()
    assert await _interrupt(house) == "sent"
    assert house.launcher.signals == [signal.SIGINT]


async def test_a_cell_whose_status_arrives_during_the_check_is_interrupted_at_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of an idle kernel waits behind a cell that was sent just before."""
    monkeypatch.setattr(commands, "IDLE_CHECK_S", LIMIT)
    await _start(house, "lab")
    house.may_answer.clear()
    house.channels[-1].asked.clear()
    interrupt = asyncio.create_task(_interrupt(house))
    await wait_until(lambda: house.channels[-1].asked, "the check")
    channels = await _begin_cell(house)
    async with asyncio.timeout(LIMIT / 2):
        await wait_until(lambda: house.launcher.signals, "the interrupt")
        channels.say("cell", "idle")
        assert await interrupt == "ended"


async def test_a_cell_that_ends_was_interrupted(house: House) -> None:
    await _start(house, "lab")
    channels = await _begin_cell(house)
    interrupt = asyncio.create_task(_interrupt(house))
    await wait_until(lambda: house.launcher.signals, "the interrupt")
    assert not interrupt.done()
    channels.say("cell", "idle")
    assert await interrupt == "ended"
    software = (await read_launch_files(house.world, LAB)).software
    assert house.world.capabilities.facts(software)["sigint_ends_cell"].value is True


@pytest.mark.parametrize("subshell", ["", "s1"])
async def test_a_cell_that_goes_on_was_not_interrupted(
    house: House, monkeypatch: pytest.MonkeyPatch, subshell: str
) -> None:
    monkeypatch.setattr(commands, "INTERRUPT_WATCH_S", 0.05)
    await _start(house, "lab")
    channels = await _begin_cell(house, subshell)
    channels.say("next", "busy", "s2")  # else the end of the other would show nothing
    channels.say("next", "idle", "s2")
    with pytest.raises(InterruptIgnoredError, match="the cell still runs after") as caught:
        await _interrupt(house)
    assert ("in a subshell" in caught.value.message) is bool(subshell)
    assert "kconnd-ctl restart lab" in caught.value.hint


async def test_a_cell_in_a_subshell_may_go_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "INTERRUPT_WATCH_S", 0.05)
    await _start(house, "lab")
    channels = await _begin_cell(house)
    channels.say("aside", "busy", "s1")

    async def end_cell(_handle: object, _number: int) -> None:
        channels.say("cell", "idle")

    monkeypatch.setattr(house.launcher, "signal", end_cell)
    assert await _interrupt(house) == "subshell-runs"


async def test_an_interrupt_that_ends_the_kernel_is_an_error(house: House) -> None:
    await _start(house, "lab")
    await _begin_cell(house)
    interrupt = asyncio.create_task(_interrupt(house))
    await wait_until(lambda: house.launcher.signals, "the interrupt")
    house.launcher.end(1, ExitStatus(signal=signal.SIGINT))
    with pytest.raises(NotRunningError, match="the kernel ended by the interrupt"):
        await interrupt


@pytest.mark.parametrize("value", ["USR1", "sigusr1", str(int(signal.SIGUSR1))])
async def test_a_signal_is_sent_by_name_or_number(house: House, value: str) -> None:
    await _start(house, "lab")
    await commands.send_signal(house.request("lab", body={"signal": value}))
    assert house.launcher.signals == [signal.SIGUSR1]


async def test_a_word_that_is_no_signal_is_refused(house: House) -> None:
    await _start(house, "lab")
    with pytest.raises(UsageError, match="'NOPE' is not a signal"):
        await commands.send_signal(house.request("lab", body={"signal": "NOPE"}))
    assert house.launcher.signals == []


async def test_the_daemon_opens_a_console_for_its_owner_only(house: House) -> None:
    await _start(house, "lab")
    with pytest.raises(RefusedError, match=f"cannot open one for uid {STRANGER.uid}"):
        await commands.open_qtconsole(house.request("lab", peer=STRANGER))


class Consoles:
    """Opens nothing, and notes what it would open."""

    def __init__(self) -> None:
        self.opened: list[tuple[Any, ...]] = []

    def open(
        self, kernel: str, command: Sequence[str], env: Mapping[str, str], now: float
    ) -> QtConsole:
        self.opened.append((kernel, command, env))
        return QtConsole(kernel, 4711, now)


async def test_a_console_is_opened_on_the_display_of_the_request(house: House) -> None:
    consoles: Any = Consoles()
    await _start(house, "lab")
    house.kernels.consoles = consoles
    body = {"environment": {"DISPLAY": ":7", "LD_PRELOAD": "/evil.so"}, "options": ["--style=bw"]}
    reply = await commands.open_qtconsole(house.request("lab", body=body))
    assert isinstance(reply, dict)
    assert (reply["kernel"], reply["pid"]) == ("lab", 4711)
    ((kernel, command, env),) = consoles.opened
    file = house.kernels.find("lab").process.files.connection_file
    assert kernel == "lab"
    assert [command[0], *command[-3:]] == [sys.executable, "--existing", file, "--style=bw"]
    assert (env["DISPLAY"], "LD_PRELOAD" in env) == (":7", False)


async def test_a_console_waits_for_a_kernel_that_starts(house: House) -> None:
    consoles: Any = Consoles()
    house.may_answer.clear()
    await commands.start(house.request("lab", body=NO_WAIT))
    house.kernels.consoles = consoles
    opening = asyncio.create_task(commands.open_qtconsole(house.request("lab")))
    await house.reach("lab", State.STARTING)
    assert consoles.opened == []
    house.may_answer.set()
    await opening
    assert len(consoles.opened) == 1


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"options": "--style=bw"}, "options: it is not a list of strings"),
        ({"options": [7]}, "options: it is not a list of strings"),
        ({"environment": [":7"]}, "environment: it is not a mapping"),
    ],
)
async def test_a_request_for_a_console_that_makes_no_sense_is_refused(
    house: House, body: dict[str, object], why: str
) -> None:
    await _start(house, "lab")
    with pytest.raises(UsageError, match=why):
        await commands.open_qtconsole(house.request("lab", body=body))


async def test_a_client_learns_how_to_open_a_console_itself(house: House) -> None:
    with pytest.raises(NotRunningError, match="opening a Qt console on lab: it is stopped"):
        await commands.plan_qtconsole(house.request("lab"))
    await _start(house, "lab")
    reply = await commands.plan_qtconsole(house.request("lab"))
    assert isinstance(reply, dict)
    file = house.kernels.find("lab").process.files.connection_file
    assert reply["argv"][-2:] == ["--existing", file]
    assert reply["environment"] == list(SESSION_VARIABLES)
    assert reply["connection_file"] == file
