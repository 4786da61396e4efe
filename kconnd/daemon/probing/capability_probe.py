"""Tests all facts about a kernel's software, on kernels that the probe starts for itself.

How it works. The probe starts the kernel five times, and each start tests some facts:

1. plain tcp, which every kernel supports: the duration of the start, the sockets, the connection
   file, kernel_info on control, heartbeats, and the exit after ``shutdown_request``;
2. Unix sockets;
3. CURVE;
4. plain tcp: heartbeats during a cell, and ``interrupt_request``;
5. plain tcp: SIGINT, which ends some kernels.

Each fact is stored as soon as it is known, so an aborted probe loses only the remaining facts. Only
one probe of a daemon runs at a time. If the request is cancelled, the present kernel is terminated.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kconnd.core.kernel.learned import facts_of
from kconnd.core.kernel.probing import (
    CELL_FACTS,
    SHORT_CELL,
    ProbeFinding,
    ProbeFindings,
    as_facts,
    describe_exposures,
    describe_rewriting,
    find_long_cell,
    judge_exit,
    judge_message,
    judge_signal,
    judge_trial,
    untested,
)
from kconnd.core.launch.capabilities import (
    BEATS_BUSY,
    BEATS_IDLE,
    CONTROL_INFO,
    EXITS_AFTER_SHUTDOWN,
    LISTENS_AS_TOLD,
    MEANINGS,
    REWRITES_FILE,
    SECONDS_TO_START,
    SIGINT_ENDS_CELL,
    SURVIVES_SIGINT,
)
from kconnd.core.launch.plan import hint_for
from kconnd.core.launch.wire import TRIED_FACT, FailedTrial, Trial, trial_limit_s
from kconnd.core.profile.model import Access, Profile
from kconnd.core.profile.values import Ports
from kconnd.daemon.context import World
from kconnd.daemon.probing.probe_kernel import (
    FirstAnswer,
    ProbeKernel,
    ProbeLimits,
    RunningCell,
    launch_probe_kernel,
)
from kconnd.daemon.warm.maker import Maker
from kconnd.errors import StartFailedError
from kconnd.system.launch_files import LaunchFiles, read_launch_files

MAX_OUTPUT_LINES = 10
DESCRIPTION = ("implementation", "implementation_version", "language")
LOOPBACK = "127.0.0.1"
# The settings that name each wire.
WIRES: Mapping[Trial | None, tuple[str, str]] = {
    None: ("tcp", "none"),
    Trial.UNIX_SOCKETS: ("ipc", "none"),
    Trial.CURVE: ("tcp", "curve"),
}

Launch = Callable[[Profile], AbstractAsyncContextManager[ProbeKernel]]


@dataclass
class ProbeReport:
    """The results of a probe.

    Parameters
    ----------
    description : mapping
        The fields of the kernel's self-description, see `kconnd.core.kernel.learned.facts_of`.
    interrupt_mode : str
        The ``interrupt_mode`` of the kernel spec.
    findings : dict
        The finding for each fact.
    took_s : float
        The duration of the probe, in seconds.
    """

    description: Mapping[str, str] = field(default_factory=dict)
    interrupt_mode: str = "signal"
    findings: dict[str, ProbeFinding] = field(default_factory=dict)
    took_s: float = 0.0


class Prober:
    """Probes the software of one owner's kernels.

    Parameters
    ----------
    world : World
        The objects that all kernels share.
    limits : ProbeLimits, optional
        The limits of waits.
    """

    def __init__(self, world: World, limits: ProbeLimits | None = None) -> None:
        self._world, self._limits = world, limits or ProbeLimits()
        self._maker = Maker(world)
        self._turn = asyncio.Lock()
        self._running: set[asyncio.Task[Any]] = set()

    async def probe(self, name: str, profile: Profile) -> ProbeReport:
        """Test all facts about the software of a profile's kernels, and store the facts.

        Raises
        ------
        KconndError
            If the kernel cannot be started.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # for mypy: a coroutine runs in a task
        self._running.add(task)
        try:
            async with self._turn:
                files = await read_launch_files(
                    self._world, profile, self._world.program_hints(profile=profile.name)
                )
                launch = partial(
                    launch_probe_kernel, self._world, self._maker, files=files, limits=self._limits
                )
                return await _Probe(self._world, launch, name, profile, files).run()
        finally:
            self._running.discard(task)

    async def forget(self, profile: Profile) -> bool:
        """Drop what was learned of the software; return whether anything was known."""
        files = await read_launch_files(
            self._world, profile, self._world.program_hints(profile=profile.name)
        )
        return self._world.capabilities.forget(files.software.key)

    async def end(self) -> None:
        """Cancel all probes, and wait until their kernels have exited."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        await self._maker.end()


class _Probe:
    def __init__(
        self, world: World, launch: Launch, name: str, profile: Profile, files: LaunchFiles
    ) -> None:
        self._world, self._launch, self._name = world, launch, name
        self._profile, self._files = profile, files
        self._report = ProbeReport(interrupt_mode=files.spec.interrupt_mode)
        self._usual_s = 0.0

    async def run(self) -> ProbeReport:
        began_at = self._world.clock()
        await self._probe_start()
        for trial in Trial:
            await self._probe_wire(trial)
        await self._probe_cell()
        self._report.took_s = self._world.clock() - began_at
        return self._report

    @asynccontextmanager
    async def _start(
        self, limit_s: float, trial: Trial | None = None
    ) -> AsyncIterator[tuple[ProbeKernel, FirstAnswer]]:
        """Start a kernel on a wire; like any start, it holds a slot until the first answer."""
        launching = self._launch(on_wire(self._profile, trial))
        async with AsyncExitStack() as stack:
            async with self._world.slots:
                kernel = await stack.enter_async_context(launching)
                answer = await kernel.first_answer(limit_s)
            yield kernel, answer

    def _note(self, findings: ProbeFindings) -> None:
        """Add findings to the report, and store the facts."""
        self._report.findings |= findings
        facts = as_facts(findings, self._world.wall_clock())
        self._world.capabilities.learn(self._files.software, facts)

    # --- the parts of a probe

    async def _probe_start(self) -> None:
        """Test what a start on plain tcp and an orderly shutdown show."""
        async with self._start(self._profile.startup_timeout) as (kernel, answer):
            if answer.reply is None:
                raise self._failed(kernel, answer.evidence)
            self._usual_s = answer.waited_s
            language = self._files.spec.language
            self._report.description = facts_of(answer.reply) | (
                {"language": language} if language else {}
            )
            seconds = ProbeFinding(round(answer.waited_s, 2), "its first answer on plain tcp")
            self._note({SECONDS_TO_START: seconds})
            await self._probe_idle(kernel)
            await self._probe_shutdown(kernel)

    def _failed(self, kernel: ProbeKernel, evidence: str) -> StartFailedError:
        output = kernel.last_output
        return StartFailedError(
            f"probing {self._name}: {evidence}, before it was ready on plain tcp",
            hint=hint_for(output) or "a kernel that does not start cannot be probed",
            output="\n".join(output.rstrip().splitlines()[-MAX_OUTPUT_LINES:]),
        )

    async def _probe_idle(self, kernel: ProbeKernel) -> None:
        reply = await kernel.ask(kernel.channels.kernel_info("control"), kernel.limits.control_s)
        limit_s = kernel.limits.control_s
        text = "it replied" if reply is not None else f"no reply within {limit_s:g} s"
        beats = await kernel.answers_heartbeat()
        exposed = await kernel.read_exposure()
        rewritten = kernel.has_rewritten_file()
        self._note(
            {
                CONTROL_INFO: ProbeFinding(reply is not None, text),
                BEATS_IDLE: _judge_beats(kernel, beats, "while it was idle"),
                LISTENS_AS_TOLD: ProbeFinding(not exposed, describe_exposures(exposed)),
                REWRITES_FILE: ProbeFinding(rewritten, describe_rewriting(rewritten=rewritten)),
            }
        )

    async def _probe_shutdown(self, kernel: ProbeKernel) -> None:
        # Some kernels, such as JJava, do not exit once they have run a cell.
        await kernel.wait_for_exit(kernel.limits.before_cell_s)
        cell = kernel.channels.run_cell(SHORT_CELL, uuid.uuid4().hex)
        await kernel.ask(cell, kernel.limits.short_cell_s)
        began_at = self._world.clock()
        shutdown = kernel.channels.control("shutdown_request", {"restart": False})
        reply = await kernel.ask(_true_after(shutdown), kernel.limits.shutdown_reply_s)
        replied_at = self._world.clock() if reply else None
        text = await kernel.wait_for_exit(kernel.limits.exit_s if reply else 0.0)
        finding = judge_exit(
            replied_at - began_at if replied_at is not None else None,
            text,
            self._world.clock() - (replied_at or began_at),
        )
        self._note({EXITS_AFTER_SHUTDOWN: finding})

    async def _probe_wire(self, trial: Trial) -> None:
        facts = as_facts(self._report.findings, 0.0)
        limit_s = trial_limit_s(facts, self._profile.startup_timeout)
        async with self._start(limit_s, trial) as (_, answer):
            if answer.reply is not None:
                text = f"it answered on {trial} after {answer.waited_s:.1f} s"
                finding = ProbeFinding(True, text)  # noqa: FBT003  # the value
            else:
                key, evidence = self._files.software.key, f"with {trial}: {answer.evidence}"
                failed = FailedTrial(key, trial, answer.failure, answer.waited_s, evidence)
                finding = judge_trial(failed, self._usual_s)
        self._note({TRIED_FACT[trial]: finding})

    async def _probe_cell(self) -> None:
        """Test what a running cell shows: heartbeats, and both ways to interrupt it."""
        language = self._report.description.get("language", "")
        code = find_long_cell(language)
        if not code:
            reason = f"not tested: no cell that runs long is known for {language or 'its language'}"
            self._note(untested(CELL_FACTS, reason))
            return
        by_message = await self._probe_message(code)
        by_signal = await self._probe_signal(code)
        is_message = self._files.spec.interrupt_mode == "message"
        # Both ways show whether the cell's reply arrives; the way that is used decides.
        self._note(by_signal | by_message if is_message else by_message | by_signal)
        missing = [name for name in CELL_FACTS if name not in self._report.findings]
        self._note(untested(missing, "not tested: no interrupt ended the cell alone"))

    async def _probe_message(self, code: str) -> dict[str, ProbeFinding]:
        async with self._run_long_cell(code) as (kernel, cell):
            if reason := _describe_short(cell):
                return untested(CELL_FACTS, reason)
            beats = await kernel.answers_heartbeat()
            if reason := _describe_short(cell):
                return untested(CELL_FACTS, reason)
            findings = {BEATS_BUSY: _judge_beats(kernel, beats, "while a cell ran")}
            return findings | judge_message(await cell.interrupt(kernel.send_interrupt_request))

    async def _probe_signal(self, code: str) -> dict[str, ProbeFinding]:
        async with self._run_long_cell(code) as (kernel, cell):
            if reason := _describe_short(cell):
                return untested((SIGINT_ENDS_CELL, SURVIVES_SIGINT), reason)
            return judge_signal(await cell.interrupt(kernel.send_sigint))

    @asynccontextmanager
    async def _run_long_cell(self, code: str) -> AsyncIterator[tuple[ProbeKernel, RunningCell]]:
        async with self._start(self._profile.startup_timeout) as (kernel, answer):
            if answer.reply is None:
                raise self._failed(kernel, answer.evidence)
            async with kernel.running_cell(code) as cell:
                yield kernel, cell


def _describe_short(cell: RunningCell) -> str:
    """Return why a cell is unsuitable because it has ended by itself; ``""`` if it runs."""
    if not cell.has_ended:
        return ""
    reason = f"it {cell.exit_text}" if cell.exit_text else f"its status is {cell.status!r}"
    return f"not tested: a cell that should run long ended at once; {reason}"


def _judge_beats(kernel: ProbeKernel, answered: bool, situation: str) -> ProbeFinding:  # noqa: FBT001  # internal
    limit_s = kernel.limits.heartbeat_s
    text = "answered" if answered else f"no answer within {limit_s:g} s"
    return ProbeFinding(answered, f"{text} {situation}")


async def _true_after(work: Any) -> bool:
    await work
    return True


def on_wire(profile: Profile, trial: Trial | None) -> Profile:
    """Return a profile whose kernels use one wire, with ports and addresses of the probe's own."""
    transport, encryption = WIRES[trial]
    return profile.model_copy(
        update={
            "transport": transport,
            "encryption": encryption,
            "ip": LOOPBACK,
            "ports": Ports(),
            "access": Access(),
        }
    )


def report_to_json(report: ProbeReport, name: str, iso_date: str | None) -> dict[str, Any]:
    """Convert the results of a probe to the reply of the daemon."""
    findings = report.findings
    return {
        "name": name,
        **{key: report.description.get(key) for key in DESCRIPTION},
        "interrupt_mode": report.interrupt_mode,
        "probed_at": iso_date,
        "took_s": round(report.took_s, 1),
        "facts": [
            {
                "fact": fact,
                "meaning": meaning,
                "value": findings[fact].value,
                "evidence": findings[fact].evidence,
            }
            for fact, meaning in MEANINGS.items()
            if fact in findings
        ],
    }
