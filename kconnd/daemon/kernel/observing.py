"""Notes what an ordinary start shows of a kernel's software, and watches the trial of a wire.

Nothing is tried on a kernel that a user waits for, except the wire that its start has chosen to try
(`kconnd.core.launch.wire`). A trial has failed as soon as the kernel listens elsewhere, exits, or
does not answer in time; the same start then falls back to plain tcp. The failure is noted once the
fallback has answered, since only that shows that nothing else was wrong.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from kconnd.core.kernel.events import WireRefused
from kconnd.core.launch.capabilities import (
    CURVE,
    MEANINGS,
    SECONDS_TO_START,
    UNIX_SOCKETS,
    Fact,
    FactSource,
    Software,
)
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.wire import TRIED_FACT, FailedTrial, Trial, TrialFailure
from kconnd.daemon.context import World
from kconnd.system.channels.kernel_listeners import read_refusal
from kconnd.system.process.processes import ProcessId

TRIAL_POLL_S = 0.2  # no event reports that a process listens
FIRST_LOOK_S = 2.0  # after which a start that is no trial is looked at; most have answered by then
POLL_S = 1.0


@dataclass(frozen=True)
class Attempt:
    """What the start of a process tries and may show.

    Parameters
    ----------
    software : Software
        The kernel's software; without a key for a process of an earlier daemon.
    trial : Trial, optional
        The wire that the start tries.
    limit_s : float
        Seconds that the trial may take.
    is_fallback : bool
        Whether the previous process of the same start has tried a wire in vain.
    """

    software: Software = field(default_factory=Software)
    trial: Trial | None = None
    limit_s: float = 0.0
    is_fallback: bool = False


class Observer:
    """Observes the starts of one kernel.

    Parameters
    ----------
    name : str
        The kernel's name.
    world : World
        What all kernels share.
    """

    def __init__(self, name: str, world: World) -> None:
        self._name, self._world = name, world
        self._attempt = Attempt()
        self._connection: ConnectionInfo | None = None
        self._began_at = 0.0
        self._failed: FailedTrial | None = None  # in the process before this one

    def begin(self, attempt: Attempt, connection: ConnectionInfo | None, began_at: float) -> None:
        """Begin to observe a process.

        Parameters
        ----------
        attempt : Attempt
            What its start tries.
        connection : ConnectionInfo, optional
            Its connection.
        began_at : float
            When it was launched, in monotonic seconds.
        """
        self._attempt, self._connection, self._began_at = attempt, connection, began_at
        if not attempt.is_fallback:
            self._failed = None

    @property
    def is_trial(self) -> bool:
        """Whether the present process tries a wire."""
        return self._attempt.trial is not None

    # --- a trial

    async def watch(
        self,
        root: ProcessId,
        generation: int,
        is_ready: Callable[[], bool],
        report: Callable[[WireRefused], None],
    ) -> None:
        """Report the refusal of the wire, until the kernel has answered.

        Parameters
        ----------
        root : ProcessId
            The common ancestor of the kernel's processes.
        generation : int
            Of the process.
        is_ready : callable
            Returns whether the kernel has answered.
        report : callable
            Takes the refusal.
        """
        connection = self._connection
        if connection is None or (connection.transport == "tcp" and connection.curve is None):
            return
        await asyncio.sleep(TRIAL_POLL_S if self.is_trial else FIRST_LOOK_S)
        while not is_ready():
            refusal = await asyncio.to_thread(read_refusal, connection, root)
            waited_s = self._world.clock() - self._began_at
            if is_ready():
                return
            if refusal is not None:
                self._fail(refusal.failure, refusal.evidence)
                report(WireRefused(generation, refusal.evidence, self.is_trial))
                return
            if self.is_trial and waited_s >= self._attempt.limit_s:
                evidence = f"no answer on {self._attempt.trial} within {waited_s:.1f} s"
                self._fail(TrialFailure.SILENCE, evidence)
                report(WireRefused(generation, evidence, may_fall_back=True))
                return
            await asyncio.sleep(TRIAL_POLL_S if self.is_trial else POLL_S)

    def _fail(self, failure: TrialFailure, evidence: str) -> None:
        trial = self._attempt.trial
        if trial is not None:
            waited_s = self._world.clock() - self._began_at
            key = self._attempt.software.key
            self._failed = FailedTrial(key, trial, failure, waited_s, evidence)

    def note_exit(self, reason: str, *, killed: bool) -> bool:
        """Note the exit of a process that has not answered; return whether its trial has failed.

        Parameters
        ----------
        reason : str
            How it has ended.
        killed : bool
            Whether it was killed, which shows nothing about the wire.
        """
        if self.is_trial and self._failed is None:
            failure = TrialFailure.KILLED if killed else TrialFailure.EXIT
            self._fail(failure, f"started with {self._attempt.trial}, it {reason}")
        return self.is_trial

    # --- what a start shows

    def note_answer(self, ready_after_s: float) -> None:
        """Note what the first answer of a process shows.

        Parameters
        ----------
        ready_after_s : float
            Seconds since its launch.
        """
        attempt, failed = self._attempt, self._failed
        if attempt.trial is not None:
            evidence = f"it answered on {attempt.trial} after {ready_after_s:.1f} s"
            self._learn({TRIED_FACT[attempt.trial]: (True, evidence)})
            return
        observed: dict[str, tuple[bool | float, str]] = {}
        if failed is not None and failed.proves(attempt.software.key, ready_after_s):
            observed[TRIED_FACT[failed.trial]] = (False, failed.evidence)
        known = self._world.capabilities.facts(attempt.software)
        if not known.keys() >= {UNIX_SOCKETS, CURVE}:
            observed[SECONDS_TO_START] = (ready_after_s, "its first answer")
        self._learn(observed)

    def _learn(self, observed: dict[str, tuple[bool | float, str]]) -> None:
        now, software = self._world.wall_clock(), self._attempt.software
        facts = {
            name: Fact(value, FactSource.START, evidence, now)
            for name, (value, evidence) in observed.items()
        }
        for name, fact in self._world.capabilities.learn(software, facts).items():
            message = f"{MEANINGS[name]}: {_as_text(fact.value)} ({fact.evidence})"
            self._world.announce(self._name, "learned", message)


def _as_text(value: bool | float) -> str:  # noqa: FBT001  # the value of a fact
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.1f}"
