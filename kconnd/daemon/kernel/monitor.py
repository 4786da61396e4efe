"""Listens to a kernel: its first answer, its status messages and its heartbeats.

This module makes no decisions. It reports events to the actor, each with the generation of the
process. A kernel that does not answer is reported as silent, and never as exited.
`kconnd.core.kernel.activity` interprets status messages, and `kconnd.core.kernel.habits` interprets
missing heartbeats. `kconnd.core.kernel.silence` interprets an idle kernel that does not answer.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from typing import Any

from kconnd.core.kernel.activity import (
    ANSWER_TIMEOUT_S,
    PROBE_INTERVAL_S,
    Activity,
    OpenRequests,
    Probe,
)
from kconnd.core.kernel.events import (
    AdoptionUnanswered,
    Answered,
    Event,
    HeartbeatMissed,
    HeartbeatResumed,
)
from kconnd.core.kernel.habits import Habits, observe_heartbeat
from kconnd.core.kernel.heartbeat_count import NO_REQUESTS, HeartbeatCount
from kconnd.core.kernel.silence import (
    MAX_PROOF_AGE_S,
    SILENT_AFTER_S,
    describe_silence,
    is_check_due,
)
from kconnd.core.launch.capabilities import CONTROL_INFO, Observations
from kconnd.daemon.context import Channels
from kconnd.daemon.kernel.questions import (
    FIRST_ANSWER_RETRY_S,
    ask_each_shell,
    ask_until_answered,
)
from kconnd.daemon.kernel.shell_check import ShellCheck

CONFIRM_TIMEOUT_S = 10.0  # an adopted kernel counts as unresponsive after this silence
IDLE_PROOF_TIMEOUT_S = 5.0  # an idle kernel answers on each shell within this time
IOPUB_LAG_S = 0.3  # a status may arrive this long after the reply on shell
FIRST_BEATS_S = (0.0, 0.05, 0.2, 0.5, 2.0)  # the pauses before the first heartbeats

log = logging.getLogger("kconnd")

Work = Coroutine[Any, Any, None]


class Watch:
    """Listens to the present process of a kernel.

    Parameters
    ----------
    report : callable
        A function that receives events.
    answered : callable
        A function that receives the content of each ``kernel_info_reply``, and whether the reply is
        the process's first.
    learned : callable
        A function that receives the kernel's habits when they have changed.
    observed : callable
        A function that receives facts about the kernel's software, each time they are observed.
    clock : callable
        A function that returns monotonic seconds.
    turn : callable
        A function that waits for the next turn to probe an adopted kernel.
    spawn : callable
        A function that runs a background task until the process exits.
    """

    def __init__(
        self,
        *,
        report: Callable[[Event], None],
        answered: Callable[[Mapping[str, Any], bool], None],
        learned: Callable[[Habits], None],
        observed: Callable[[Observations], None],
        clock: Callable[[], float],
        turn: Callable[[], Awaitable[None]],
        spawn: Callable[[Work], object],
    ) -> None:
        self.activity: Activity | None = None  # None until a new process has answered
        self.busy_at = -math.inf  # when the kernel last began to work on a request
        self.beats = HeartbeatCount(clock())
        self.habits = Habits()
        self._report, self._answered, self._learned = report, answered, learned
        self._observed = observed
        self._clock, self._turn, self._spawn = clock, turn, spawn
        self._channels: Channels | None = None
        self._shells: ShellCheck | None = None
        self._proved_at = -math.inf  # when all shells have answered last
        self._generation = 0
        self._alive = asyncio.Event()  # set by any message of this process
        self._changed = asyncio.Event()  # set, and replaced, when the status may have changed
        self._unsure = asyncio.Event()  # set while a probe of the kernel may be needed
        self._reported = False  # whether the kernel's silence has been reported

    @property
    def execution_state(self) -> str | None:
        """``busy``, ``idle`` or ``unknown``; None before the first answer.

        It is unknown after an adoption, and if a kernel that reports ``idle`` does not answer.
        """
        if self.activity is None:
            return None
        return "unknown" if self.silence else self.activity.state

    @property
    def silence(self) -> str:
        """That a kernel which reports ``idle`` does not answer on its shells; else ``""``."""
        check = self._shells
        if check is None or check.sent_at is None or not self._is_unanswered():
            return ""
        waited_s = self._clock() - check.sent_at
        return describe_silence(waited_s, control_answers=check.control_answers)

    def _is_unanswered(self) -> bool:
        """Return whether a check of an idle kernel is pending, and nothing else was answered."""
        sent_at = self._shells.sent_at if self._shells else None
        activity = self.activity
        if sent_at is None or activity is None or activity.state != "idle":
            return False
        return max(activity.active_at, self._proved_at) <= sent_at

    @property
    def open_requests(self) -> OpenRequests:
        """The requests that the kernel works on, as far as it has published them."""
        return self.activity.open_requests if self.activity else OpenRequests()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the kernel's status meets a condition."""
        while not condition():
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def is_sure(self) -> bool:
        """Whether the kernel is certainly idle; a last status of ``idle`` does not prove this."""
        return self.activity is not None and self.activity.is_sure

    @property
    def heartbeat(self) -> str:
        """``alive`` if the last heartbeat was answered, else ``missed`` or ``unknown``."""
        return self.beats.status if self._channels is not None else "unknown"

    def begin(self, *, fresh: bool, habits: Habits) -> None:
        """Reset the state for a process; ``fresh`` means that the process has not answered yet."""
        self.habits = habits
        self.activity = None if fresh else self._new_activity(idle=False)
        self.beats = HeartbeatCount(self._clock())
        self.busy_at, self._reported = -math.inf, False
        self._alive.clear()
        self._unsure.clear()

    def _new_activity(self, *, idle: bool) -> Activity:
        return Activity(self._clock(), history_complete=idle, overlaps=self.habits.overlaps)

    def listen(
        self,
        channels: Channels,
        generation: int,
        *,
        fresh: bool,
        answer: Mapping[str, Any] | None = None,
        beats: bool = True,
    ) -> Iterator[Work]:
        """Yield the coroutines that listen to a process until `end` is called.

        Parameters
        ----------
        channels : Channels
            The connection to the kernel; `end` closes it.
        generation : int
            The generation of the process.
        fresh : bool
            Whether the process is new: False for an adopted process that has answered an earlier
            daemon.
        answer : mapping, optional
            The first reply of the process, if the caller has already received it (from a warm
            kernel).
        beats : bool
            Whether the profile enables heartbeats.
        """
        self._channels, self._generation = channels, generation
        self._shells, self._proved_at = ShellCheck(channels, self._clock), -math.inf
        if fresh and answer is None:
            yield self._first_answer(channels, generation)
        else:
            yield channels.watch_status(self._status_seen, self._lost)
            if answer is not None:
                self._take_first(answer, generation)
            else:
                self._unsure.set()
                yield self._confirm(channels, generation)
        yield self._keep_right(channels)
        if beats:
            yield self._first_beats(channels)

    def end(self) -> None:
        """Stop listening, and close the connection."""
        self.activity = self._shells = None
        self._wake()
        if self._channels is not None:
            self._channels.close()
            self._channels = None

    async def request(self, kind: str, content: Mapping[str, Any]) -> None:
        """Send a request on the control channel."""
        if self._channels is not None:
            await self._channels.request(kind, content)

    async def control(self, kind: str, content: Mapping[str, Any]) -> bool:
        """Send a request on the control channel, wait for the reply; False if not connected."""
        if self._channels is None:
            return False
        await self._channels.control(kind, content)
        return True

    # --- status

    def _status_seen(
        self,
        request: str,
        busy: bool,  # noqa: FBT001  # see `Channels`
        subshell: str,
    ) -> None:
        self._show_life()
        if busy:
            self.busy_at = self._clock()
        if self.activity is None:
            return
        self.activity.record_status(request, busy=busy, now=self._clock(), subshell=subshell)
        if self.activity.overlaps and not self.habits.overlaps:
            self.learn(replace(self.habits, overlaps=True))
        self._unsure.set()
        self._wake()

    def _lost(self) -> None:
        if self.activity is not None:
            self.activity.record_loss(self._clock())
            self._unsure.set()

    async def _keep_right(self, channels: Channels) -> None:
        """Probe the kernel whenever its status messages leave open whether it is busy."""
        await self._unsure.wait()
        await self._turn()  # kernels that were adopted together are probed one after the other
        while True:
            await self._unsure.wait()
            due = self.activity.next_probe_at(channels.heard_at) if self.activity else None
            if due is None:
                self._unsure.clear()
            elif due > self._clock():
                # The probe is needed only if no status message arrives until then.
                await asyncio.sleep(due - self._clock())  # no event reports that none arrived
            else:
                await self._question(channels)

    async def _question(self, channels: Channels) -> None:
        """Probe the main shell and all subshells; the answer can take as long as a cell.

        This method ends when the kernel has answered, or when a status message has made the probe
        unnecessary. When it ends, it cancels the probe, so at most one probe is pending.
        """
        activity = self.activity
        if activity is None:
            return
        question = activity.begin_probe(self._clock())
        asking = asyncio.ensure_future(ask_each_shell(channels))
        try:
            await asyncio.wait({asking}, timeout=ANSWER_TIMEOUT_S)
            if not asking.done():
                activity.record_no_answer()
            while not asking.done() and activity.next_probe_at(channels.heard_at) is not None:
                await asyncio.wait({asking}, timeout=PROBE_INTERVAL_S)
            if asking.done():
                await self._take_answer(asking, activity, question)
        finally:
            asking.cancel()

    async def _take_answer(
        self, asking: asyncio.Future[Mapping[str, Any]], activity: Activity, question: Probe
    ) -> None:
        if error := asking.exception():
            log.warning("asking a kernel whether it is idle: its reply is invalid: %s", error)
            await asyncio.sleep(CONFIRM_TIMEOUT_S)  # another reply would be invalid as well
            return
        reply = asking.result()
        self._show_life()
        await asyncio.sleep(IOPUB_LAG_S)  # an `idle` may arrive shortly after the reply
        self._answered(reply, False)  # noqa: FBT003  # see the class's docstring
        activity.record_answer(question, self._clock())
        self._proved_at = self._clock()
        self._wake()

    async def is_idle(self, limit_s: float | None = None) -> bool:
        """Probe all shells; return whether they reply in time and the kernel is certainly idle.

        The default time limit is `IDLE_PROOF_TIMEOUT_S`.

        A last status of ``idle`` proves nothing: during a cell that holds the GIL, ipykernel cannot
        publish ``busy``.
        """
        activity = self.activity
        if activity is None:
            return False
        since = activity.active_at
        answers = await self.answers(IDLE_PROOF_TIMEOUT_S if limit_s is None else limit_s)
        unchanged = activity is self.activity and activity.active_at == since
        return answers and unchanged and activity.is_sure

    async def answers(self, limit_s: float) -> bool:
        """Probe all shells; return whether they reply in time."""
        if self._channels is None:
            return False
        try:
            async with asyncio.timeout(limit_s):
                await ask_each_shell(self._channels)
        except TimeoutError:
            self._begin_check()
            return False
        except ValueError:
            return False
        self._proved_at = self._clock()
        return True

    # --- whether an idle kernel answers

    async def check_shells(self) -> None:
        """Check whether an idle kernel answers, unless it has answered a short time ago.

        The check is over when the kernel has answered or counts as silent.
        """
        if self._clock() - self._proved_at > MAX_PROOF_AGE_S:
            self._begin_check()
        check = self._shells
        if check is not None and check.sent_at is not None:
            remaining_s = check.sent_at + SILENT_AFTER_S - self._clock()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(remaining_s):
                    await self.until(lambda: not self._is_unanswered())

    def _begin_check(self) -> None:
        """Begin to check an idle kernel, unless a check is pending."""
        check = self._shells
        is_idle = self.activity is not None and self.activity.state == "idle"
        if check is not None and check.sent_at is None and is_idle:
            check.begin()
            self._spawn(self._check_shells(check))

    async def _check_shells(self, check: ShellCheck) -> None:
        if await check.run():
            self._proved_at = self._clock()
            self._show_life()
        self._wake()

    # --- the first answer

    async def _first_answer(self, channels: Channels, generation: int) -> None:
        """Wait for the first answer, then listen to status messages.

        The connection for status messages is opened after the first answer, because a starting
        kernel may refuse an earlier connection.
        """
        self._take_first(await ask_until_answered(channels, FIRST_ANSWER_RETRY_S), generation)
        await channels.watch_status(self._status_seen, self._lost)

    def _take_first(self, reply: Mapping[str, Any], generation: int) -> None:
        self._show_life()
        self.activity = self.activity or self._new_activity(idle=True)
        self._proved_at = self._clock()
        self._answered(reply, True)  # noqa: FBT003  # see the class's docstring
        self._report(Answered(generation))

    async def _confirm(self, channels: Channels, generation: int) -> None:
        """Wait for a message of an adopted kernel, and report a kernel that is silent.

        A silent kernel stays adopted. Every message counts as a sign of life, because many kernels
        do not answer on the control channel, and no kernel answers on the shell channel during a
        cell.
        """
        await self._turn()
        asking = asyncio.ensure_future(channels.kernel_info("control"))
        alive = asyncio.ensure_future(self._alive.wait())
        try:
            await asyncio.wait(
                {asking, alive}, timeout=CONFIRM_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
            )
            if not alive.done() and not asking.done():
                self._report(AdoptionUnanswered(generation))
            await asyncio.wait({asking, alive}, return_when=asyncio.FIRST_COMPLETED)
            self._show_life()
            self._report(HeartbeatResumed(generation))
            if asking.done() and asking.exception() is None:
                self._observed({CONTROL_INFO: (True, "it replied to a daemon that adopted it")})
        finally:
            asking.cancel()
            alive.cancel()

    def _show_life(self) -> None:
        """Note a sign of life: the process has sent a message."""
        self._alive.set()
        if self._reported:
            self._reported = False
            self._report(HeartbeatResumed(self._generation))

    # --- heartbeats

    async def _first_beats(self, channels: Channels) -> None:
        """Send early heartbeats, because the first regular heartbeat may follow after a minute."""
        if self.activity is None:
            await self._alive.wait()
        for pause in FIRST_BEATS_S:
            await asyncio.sleep(pause)  # there is no event for the answer
            if channels.heartbeat():
                self._heard()
                return

    def beat(self, allowed: int) -> None:
        """Check the last heartbeat, and send the next one.

        Parameters
        ----------
        allowed : int
            The number of consecutive missed heartbeats after which a request is sent, to check
            whether the kernel is silent.
        """
        if self._channels is None:
            return
        active_at = self.activity.active_at if self.activity else math.inf
        if is_check_due(active_at, self._proved_at, self._clock()):
            self._begin_check()
        answered = self._channels.heartbeat()
        if answered:
            self._heard()
        elif answered is not None and self._record_missed() and self.beats.missed % allowed == 0:
            self._spawn(self._check_silence(self._channels))
        self.beats.record_sent(self._clock(), self._requests())

    def _requests(self) -> frozenset[str]:
        return frozenset(self.activity.open) if self.activity else NO_REQUESTS

    def _heard(self) -> None:
        busy, missed_busy = self.beats.is_same_request(self._requests()), self.beats.missed_busy
        self.learn(self.habits.with_heartbeat(busy=busy, missed_busy=missed_busy))
        self._observed(observe_heartbeat(busy=busy, missed_busy=missed_busy))
        self.beats.record_answer(self._clock())
        self._show_life()

    def _record_missed(self) -> bool:
        activity = self.activity
        return self.beats.record_missed(
            self._requests(),
            idle_since=activity.active_at if activity and activity.state == "idle" else None,
            must_beat_busy=self.habits.must_beat_busy,
        )

    async def _check_silence(self, channels: Channels) -> None:
        """Send a request; if no answer comes in time, report that the kernel is silent."""
        generation = self._generation
        try:
            async with asyncio.timeout(IDLE_PROOF_TIMEOUT_S):
                await channels.kernel_info()
            self._show_life()
        except TimeoutError:
            if self.beats.missed and not self._reported:
                self._reported = True
                self._report(HeartbeatMissed(generation))

    def learn(self, habits: Habits) -> None:
        """Store and report the kernel's habits if they have changed."""
        if habits != self.habits:
            self.habits = habits
            self._learned(habits)
