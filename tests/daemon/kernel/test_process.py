"""The supervision of one process, over a fake launcher and a fake kernel."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from kconnd.core.kernel.events import Answered, Exited, Step, TakeStep
from kconnd.core.kernel.exposure import REWRITTEN
from kconnd.core.kernel.learned import Learned
from kconnd.core.kernel.record import Facts
from kconnd.core.launch.capabilities import Software
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.plan import LaunchPlan
from kconnd.daemon.kernel import process as process_module
from kconnd.daemon.kernel.observing import Attempt
from kconnd.daemon.kernel.process import Process, Target, describe_end
from kconnd.errors import NotRunningError
from kconnd.launchers.base import ExitStatus, Handle
from kconnd.system.process.processes import ProcessId, read_stat
from tests.conftest import wait_until
from tests.daemon.kernel.fakes import FakeChannels, Reports, a_connection, make_world
from tests.launchers.fake import FakeLauncher

SOFTWARE = Software("key", "mine")


@dataclass
class Bench:
    """A process under test, and what surrounds it."""

    process: Process
    launcher: FakeLauncher
    reports: Reports
    channels: list[FakeChannels]
    handle: Handle
    connection: ConnectionInfo
    may_answer: asyncio.Event

    def attach(self, facts: Facts | None = None, **changes: Any) -> None:
        target = Target(self.handle, self.connection, facts or Facts(), beats=False, fresh=True)
        self.process.attach(replace(target, **changes))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_in(tmp_path) as built:
        yield built


@contextlib.asynccontextmanager
async def bench_in(folder: Path, transport: str = "ipc") -> AsyncIterator[Bench]:
    launcher, reports, may_answer = FakeLauncher(), Reports(), asyncio.Event()
    channels: list[FakeChannels] = []

    def connect(connection: ConnectionInfo) -> FakeChannels:
        channels.append(FakeChannels(connection, may_answer))
        return channels[-1]

    world = make_world(folder, launcher=launcher, connect=connect)
    world.store.folder("lab")
    process = Process("lab", world, reports.append)
    handle = await launcher.launch(plan_of(process))
    connection = a_connection(folder, transport)
    yield Bench(process, launcher, reports, channels, handle, connection, may_answer)
    process.detach()


def plan_of(process: Process) -> LaunchPlan:
    return LaunchPlan("lab", 3, ("/bin/kernel",), {}, "/", process.files)


async def test_a_port_that_is_not_in_the_connection_file_is_a_warning(bench: Bench) -> None:
    own = ProcessId(os.getpid(), read_stat(os.getpid())[2])
    bench.may_answer.set()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        bench.attach(handle=replace(bench.handle, shim=own), launched_at=0.0)
        port = str(listener.getsockname()[1])

        def warned() -> bool:
            warnings = [text for one in bench.reports.of(Learned) for text in one.facts.warnings]
            return any("also listens" in text and port in text for text in warnings)

        await wait_until(warned, "the warning")


async def test_the_first_answer_is_reported_with_the_facts_before_it(bench: Bench) -> None:
    bench.may_answer.set()
    bench.attach(Facts(interrupt_mode="message"), launched_at=0.0)
    await wait_until(lambda: bench.reports.of(Answered), "the answer")
    learned, answered = bench.reports[:2]
    assert answered == Answered(3)
    assert isinstance(learned, Learned)
    assert learned.facts is not None
    assert (learned.facts.language, learned.facts.interrupt_mode) == ("python", "message")
    assert learned.facts.ready_after is not None
    assert bench.process.is_ready
    assert bench.process.settled.is_set()


async def test_the_end_is_reported_with_its_reason_and_nothing_is_supervised_then(
    bench: Bench,
) -> None:
    bench.attach()
    bench.process.runtime.log.write_text("[kconnd: launch 3]\nSegmentation fault\n")
    bench.launcher.end(1, ExitStatus(signal=11, at=5.0))
    await wait_until(lambda: bench.reports.of(Exited), "the end")
    learned, exited = bench.reports
    assert learned.last_exit.output_tail == "Segmentation fault\n"
    assert (learned.last_exit.signal, learned.last_exit.at) == (11, 5.0)
    assert exited == Exited(3, learned.last_exit.reason, roll=0.5)
    assert (bench.process.handle, bench.channels[0].closed) == (None, True)


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
async def test_ports_that_are_taken_are_reported_with_the_end(
    tmp_path: Path, transport: str
) -> None:
    async with bench_in(tmp_path, transport) as bench:
        bench.attach()
        bench.process.runtime.log.write_text("[kconnd: launch 3]\nAddress already in use\n")
        bench.launcher.end(1, ExitStatus(code=1))
        await wait_until(lambda: bench.reports.of(Exited), "the end")
        assert bench.reports[-1].ports_taken == (transport == "tcp")


async def test_an_end_right_after_an_interrupt_is_put_down_to_it(bench: Bench) -> None:
    bench.attach()
    await bench.process.interrupt()
    assert bench.launcher.signals == [signal.SIGINT]
    bench.launcher.end(1, ExitStatus(code=0))
    await wait_until(lambda: bench.reports.of(Exited), "the end")
    assert not bench.reports[-1].success
    assert bench.reports[-1].reason.startswith("ended by the interrupt")


async def test_a_kernel_spec_can_ask_for_interrupts_by_message(bench: Bench) -> None:
    bench.attach(Facts(interrupt_mode="message"))
    await bench.process.interrupt()
    asked = bench.channels[0].asked
    await wait_until(lambda: "interrupt_request" in asked, "the request")
    assert bench.launcher.signals == []


def learned(bench: Bench) -> dict[str, Any]:
    facts = bench.process._world.capabilities.facts(SOFTWARE)
    return {name: fact.value for name, fact in facts.items()}


@pytest.mark.parametrize("rewritten", [True, False])
async def test_the_use_of_a_kernel_shows_facts(bench: Bench, *, rewritten: bool) -> None:
    bench.may_answer.set()
    bench.process.runtime.write_connection(bench.connection)
    if rewritten:
        bench.process.runtime.connection_file.write_text("{}")
    attempt = Attempt(SOFTWARE)
    bench.attach(Facts(interrupt_mode="message"), launched_at=0.0, attempt=attempt, beats=True)
    await wait_until(lambda: bench.reports.of(Answered), "the answer")
    await bench.process.interrupt()
    bench.process.note_interrupted_cell()
    expected = {
        "heartbeat_idle": True,
        "interrupt_reply": True,
        "interrupt_request_ends_cell": True,
        "listens_as_told": True,
        "rewrites_connection_file": rewritten,
    }
    await wait_until(lambda: expected.items() <= learned(bench).items(), "the facts")
    warnings = [news.facts.warnings for news in bench.reports.of(Learned) if news.facts]
    assert any(REWRITTEN in text for texts in warnings for text in texts) is rewritten


async def test_an_interrupt_without_a_reply_is_noted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "INTERRUPT_REPLY_TIMEOUT_S", 0.05)
    bench.attach(Facts(interrupt_mode="message"), launched_at=0.0, attempt=Attempt(SOFTWARE))
    await bench.process.interrupt()
    await wait_until(lambda: learned(bench).get("interrupt_reply") is False, "it to be noted")


async def test_an_interrupt_that_cannot_be_sent_shows_nothing(bench: Bench) -> None:
    bench.attach(Facts(interrupt_mode="message"), launched_at=0.0, attempt=Attempt(SOFTWARE))
    bench.process.watch.end()
    await bench.process._request_interrupt()
    assert "interrupt_reply" not in learned(bench)


async def test_each_step_of_a_stop_goes_its_own_way(bench: Bench) -> None:
    bench.launcher.ignores = {Step.TERMINATE}
    bench.attach()
    bench.process.take(TakeStep(Step.SHUTDOWN, restart=True))
    await wait_until(lambda: "shutdown_request" in bench.channels[0].asked, "the request")
    bench.process.take(TakeStep(Step.TERMINATE))
    bench.process.take(TakeStep(Step.KILL))
    await wait_until(lambda: bench.reports.of(Exited), "the end")
    assert bench.reports.of(Learned)[-1].last_exit.signal == signal.SIGKILL


async def test_a_kernel_without_a_process_cannot_be_signalled(bench: Bench) -> None:
    with pytest.raises(NotRunningError, match="it has no process now"):
        await bench.process.signal(signal.SIGUSR1)


async def test_a_connection_file_that_was_removed_is_written_again(bench: Bench) -> None:
    bench.attach()
    bench.process.mend({bench.process.files.connection_file})
    assert not bench.process.runtime.connection_file.exists()
    bench.process.mend(set())
    assert bench.process.runtime.read_connection() == bench.connection


async def test_sockets_that_were_deleted_are_reported_once(bench: Bench) -> None:
    bench.may_answer.set()
    bench.attach()
    await wait_until(lambda: bench.process.is_ready, "the answer")
    del bench.reports[:]
    for _ in range(2):
        bench.process.mend({bench.process.files.connection_file})
    (learned,) = bench.reports
    assert "its sockets were deleted" in learned.facts.warnings[0]


async def test_why_no_client_can_attach_is_kept_for_the_present_process_alone(
    bench: Bench,
) -> None:
    bench.may_answer.set()
    bench.attach()
    await wait_until(lambda: bench.process.is_ready, "the answer")
    bench.process.note_fault(replace(bench.handle, generation=2), "no socket")
    assert bench.process.fault == ""
    bench.process.note_fault(bench.handle, "no socket")
    assert bench.process.fault == "no socket"


async def test_a_process_whose_connection_is_lost_is_supervised_all_the_same(bench: Bench) -> None:
    bench.attach(connection=None)
    assert bench.process.fault == "its connection file is lost with its record"
    bench.launcher.end(1, ExitStatus(code=0))
    await wait_until(lambda: bench.reports.of(Exited), "the end")


async def test_an_end_is_described_by_its_cause(bench: Bench) -> None:
    handle = replace(bench.handle, cgroup="/user.slice/kconnd-lab.service")
    described = describe_end(ExitStatus(signal=15, unit_stopped=True), handle, interrupted=False)
    assert "kconnd-lab.service" in described
    assert "memory" in describe_end(ExitStatus(signal=9, oom=True), handle, interrupted=False)
