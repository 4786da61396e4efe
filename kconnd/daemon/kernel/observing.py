"""Records facts that a kernel's start shows about its software, and watches the trial of a wire.

A wire is a transport with or without encryption. A start can try a wire that the kernel may or may
not support (`kconnd.core.launch.wire`). Nothing else is tried on a user's kernel. A trial fails if
the kernel listens on other addresses, exits, or does not answer in time. The start then falls back
to plain tcp. If the kernel answers on plain tcp, the wire was the cause of the failure, and the
failed trial is recorded as a fact.

The trial of a start during which the daemon dies is continued by the next daemon. By then, clients
may have reached the kernel. A kernel that has bound one of its sockets is therefore never ended.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from kconnd.core.kernel.events import WireRefused
from kconnd.core.kernel.refused_wire import RefusedWire
from kconnd.core.launch.capabilities import (
    BEATS_BUSY,
    CURVE,
    EXITS_AFTER_SHUTDOWN,
    MEANINGS,
    SECONDS_TO_START,
    SURVIVES_SIGINT,
    UNIX_SOCKETS,
    Fact,
    FactSource,
    Observations,
    Software,
)
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.wire import TRIED_FACT, FailedTrial, Trial, TrialFailure
from kconnd.daemon.context import World
from kconnd.system.channels.kernel_listeners import has_bound, read_refusal
from kconnd.system.process.processes import ProcessId

TRIAL_POLL_S = 0.2  # polled, because no event reports that a process listens
FIRST_LOOK_S = 2.0  # the first check of a start without a trial; most kernels answer earlier
POLL_S = 1.0


@dataclass(frozen=True)
class Attempt:
    """The wire that a start tries, and the software that the start can show facts about.

    Parameters
    ----------
    software : Software
        The kernel's software; an empty `Software` for an adopted process or a warm kernel.
    trial : Trial, optional
        The wire that the start tries.
    limit_s : float
        The time limit of the trial, in seconds. For an adopted process that is no trial: of its
        start.
    is_fallback : bool
        Whether this process is a fallback: the previous process of this start failed its trial.
    is_adopted : bool
        Whether an earlier daemon launched the process, and has recorded no answer of it.
    """

    software: Software = field(default_factory=Software)
    trial: Trial | None = None
    limit_s: float = 0.0
    is_fallback: bool = False
    is_adopted: bool = False


async def unknown_software() -> Software:
    """Return an empty `Software`: nothing can be learned about it."""
    return Software()


class Observer:
    """Observes the starts of one kernel.

    Parameters
    ----------
    name : str
        The kernel's name.
    world : World
        The objects that all kernels share.
    read_software : callable
        A function that reads the known facts about the kernel's software. It is called for an
        adopted process and for a warm kernel.
    """

    def __init__(
        self, name: str, world: World, read_software: Callable[[], Awaitable[Software]]
    ) -> None:
        self._name, self._world, self._read_software = name, world, read_software
        self._attempt = Attempt()
        self._connection: ConnectionInfo | None = None
        self._began_at = 0.0
        self._failed: FailedTrial | None = None  # the trial of the previous process
        self._has_bound = False  # whether an adopted process has bound one of its sockets
        self._is_own_launch = False  # whether the software is known as of the launch
        self._noted: set[tuple[str, bool | float]] = set()  # facts of this process

    def begin(self, attempt: Attempt, connection: ConnectionInfo | None, began_at: float) -> None:
        """Begin to observe a process.

        Parameters
        ----------
        attempt : Attempt
            The wire that the start tries, and the kernel's software.
        connection : ConnectionInfo, optional
            The connection of the process.
        began_at : float
            The time of the launch or of the adoption, in monotonic seconds.
        """
        self._attempt, self._connection, self._began_at = attempt, connection, began_at
        self._has_bound = False
        self._noted.clear()
        self._is_own_launch = bool(attempt.software.key)
        if not attempt.is_fallback:
            self._failed = None

    @property
    def is_trial(self) -> bool:
        """Whether the present process tries a wire that the kernel may not support."""
        return self._attempt.trial is not None

    # --- a trial

    async def watch(
        self,
        root: ProcessId,
        generation: int,
        is_ready: Callable[[], bool],
        report: Callable[[WireRefused], None],
    ) -> None:
        """Watch until the kernel has answered; report if the kernel refuses the wire.

        Parameters
        ----------
        root : ProcessId
            The common ancestor of the kernel's processes.
        generation : int
            The generation of the process.
        is_ready : callable
            A function that returns whether the kernel has answered.
        report : callable
            A function that receives the refusal.
        """
        connection = self._connection
        if connection is None or (connection.transport == "tcp" and connection.curve is None):
            return
        # A fixed delay: no event reports that a process listens, and no kernel listens at once.
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

    async def watch_adopted(
        self,
        root: ProcessId,
        generation: int,
        is_ready: Callable[[], bool],
        report: Callable[[WireRefused], None],
    ) -> str:
        """Watch an adopted process until it has answered or has bound a socket.

        The process is reported only if no client can have reached it: if it listens at other
        addresses, or has bound none of its sockets in time. The time is counted from the adoption.
        The parameters are those of `watch`.

        Returns
        -------
        str
            How a process that clients may have reached ignores its connection file; ``""`` if there
            is no sign of this.
        """
        connection = self._connection
        while connection is not None and not is_ready():
            refusal = await asyncio.to_thread(read_refusal, connection, root)
            self._has_bound = await asyncio.to_thread(has_bound, connection, root)
            if self._has_bound or is_ready():
                return refusal.evidence if refusal is not None else ""
            waited_s = self._world.clock() - self._began_at
            if refusal is None and waited_s >= self._attempt.limit_s:
                evidence = f"it has bound none of its sockets {waited_s:.1f} s after its adoption"
                refusal = RefusedWire(TrialFailure.SILENCE, evidence)
            if refusal is not None:
                self._fail(refusal.failure, refusal.evidence)
                report(WireRefused(generation, refusal.evidence, self.is_trial))
                return ""
            # This loop polls, because no event reports that a process binds a socket.
            await asyncio.sleep(POLL_S)
        return ""

    def _fail(self, failure: TrialFailure, evidence: str) -> None:
        trial = self._attempt.trial
        if trial is not None:
            waited_s = self._world.clock() - self._began_at
            key = self._attempt.software.key
            self._failed = FailedTrial(key, trial, failure, waited_s, evidence)

    def note_exit(self, reason: str, *, killed: bool, success: bool = False) -> bool:
        """Handle the exit of a process that has not answered; return whether a trial has failed.

        An adopted process may have answered clients before it exited. Its exit proves nothing about
        the wire. A successful exit, or an exit after it has bound a socket, is no failed trial.

        Parameters
        ----------
        reason : str
            The description of the exit.
        killed : bool
            Whether the process was killed, which shows nothing about the wire.
        success : bool
            Whether the exit status is 0.
        """
        if self._failed is None and self._attempt.is_adopted:
            if success or self._has_bound:
                return False
            failure = TrialFailure.UNSEEN
        else:
            failure = TrialFailure.KILLED if killed else TrialFailure.EXIT
        if self.is_trial and self._failed is None:
            self._fail(failure, f"started with {self._attempt.trial}, it {reason}")
        return self.is_trial

    # --- what a start shows

    def note_answer(self, ready_after_s: float) -> None:
        """Record the facts that the first answer of a process shows.

        Parameters
        ----------
        ready_after_s : float
            The time from the launch to the answer, in seconds.
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

    async def is_false(self, name: str) -> Fact | None:
        """Return the fact with this name if it is known not to hold, else None."""
        if not self._attempt.software.key:
            self._attempt = replace(self._attempt, software=await self._read_software())
        fact = self._world.capabilities.facts(self._attempt.software).get(name)
        return fact if fact is not None and fact.value is False else None

    def note_death_by_interrupt(self, reason: str) -> None:
        """Note that an interrupt has ended the process."""
        self._note_failing(SURVIVES_SIGINT, f"after SIGINT, it {reason}")

    async def is_known_to_stay(self) -> bool:
        """Return whether the software is known not to exit after its reply to a shutdown."""
        return await self.is_false(EXITS_AFTER_SHUTDOWN) is not None

    def note_stay(self, seconds: float) -> None:
        """Note that the process is alive and at rest ``seconds`` after its reply to a shutdown."""
        evidence = f"{seconds:.0f} s after its reply it lived, with nothing left to do"
        self._note_failing(EXITS_AFTER_SHUTDOWN, evidence)

    def _note_failing(self, name: str, evidence: str) -> None:
        """Note that a fact does not hold, unless the store already states whether it holds.

        The stored statement takes precedence, because a user's code can change what an interrupt or
        a shutdown does.
        """
        if name not in self._world.capabilities.facts(self._attempt.software):
            self._learn({name: (False, evidence)})

    # --- what the use of a kernel shows

    def take_news(self, observed: Observations) -> Observations:
        """Return those observations of the present process that were not returned before."""
        news = {name: seen for name, seen in observed.items() if (name, seen[0]) not in self._noted}
        self._noted.update((name, value) for name, (value, _) in news.items())
        return news

    def note(self, observed: Observations) -> None:
        """Record facts that the ordinary use of a launched process shows.

        Nothing is recorded of a process that was a warm kernel, because its software was not read
        at its launch.
        """
        if self._is_own_launch:
            self._learn_first(self._attempt.software, observed)

    async def note_adopted(
        self, kernel_name: str, started_at: float, observed: Observations
    ) -> None:
        """Record facts about an adopted process, unless its software has changed since its launch.

        The software is read only if a fact is not known of any version, because this takes long
        and many kernels can be adopted at once.

        Parameters
        ----------
        kernel_name : str
            The name of the kernel spec.
        started_at : float
            The time of the launch, in seconds since the epoch.
        observed : mapping
            The facts.
        """
        capabilities = self._world.capabilities
        if all(capabilities.has_learned(kernel_name, name) for name in observed):
            return
        software = await self._read_software()
        if software.changed_at < started_at:
            self._learn_first(software, observed)

    def _learn_first(self, software: Software, observed: Observations) -> None:
        """Store those facts of which nothing is known; nothing is announced.

        A user's code can change what a kernel does, so the first observation counts. There is one
        exception: a kernel that has missed a heartbeat during one request need not answer during
        another.
        """
        known = self._world.capabilities.facts(software)
        news = {
            name: seen
            for name, seen in observed.items()
            if name not in known or (name == BEATS_BUSY and not seen[0])
        }
        self._world.capabilities.learn(software, self._as_facts(news))

    def _as_facts(self, observed: Observations) -> dict[str, Fact]:
        now = self._world.wall_clock()
        return {
            name: Fact(value, FactSource.START, evidence, now)
            for name, (value, evidence) in observed.items()
        }

    def _learn(self, observed: Observations) -> None:
        software, facts = self._attempt.software, self._as_facts(observed)
        for name, fact in self._world.capabilities.learn(software, facts).items():
            message = f"{MEANINGS[name]}: {_as_text(fact.value)} ({fact.evidence})"
            self._world.announce(self._name, "learned", message)


def _as_text(value: bool | float) -> str:  # noqa: FBT001  # the value of a fact
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.1f}"
