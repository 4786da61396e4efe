"""What a kernel says of itself: its first answer, the requests it works on, heartbeats.

Rules. Nothing is decided here: what is heard is told to the actor as an event with the
generation it belongs to. Silence is reported, never taken for an end. What messages mean is in
`kconnd.core.kernel.activity`, and what a missing heartbeat means in `kconnd.core.kernel.habits`.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from typing import Any

from kconnd.core.kernel.activity import ANSWER_S, RECHECK_S, Activity, Question
from kconnd.core.kernel.events import Answered, Event, HeartbeatBack, HeartbeatMissed, Silent
from kconnd.core.kernel.habits import Habits
from kconnd.daemon.context import Channels

FIRST_PATIENCE = 5.0  # seconds before a kernel that has not answered is asked again
CONFIRM = 10.0  # seconds of silence after which an adopted kernel is called unresponsive
IDLE_PROOF = 5.0  # seconds in which an idle kernel answers on each shell
LAG_S = 0.3  # by which iopub may be later than a reply on shell
FIRST_BEATS_S = (0.0, 0.05, 0.2, 0.5, 2.0)  # pauses between heartbeats until one is answered
SUBSHELLS = "kernel subshells"  # in the features of a kernel_info_reply (JEP 91)

log = logging.getLogger("kconnd")

Work = Coroutine[Any, Any, None]


class Watch:
    """Listens to one process of a kernel after the other.

    Parameters
    ----------
    tell : callable
        Takes events.
    answered : callable
        Takes the content of a ``kernel_info_reply``, and whether it was the first one.
    learned : callable
        Takes the habits that the kernel has shown, when they have become more.
    clock : callable
        Monotonic seconds.
    turn : callable
        Waits until an adopted kernel may be asked something.
    spawn : callable
        Runs something beside, as long as the process is watched.
    """

    def __init__(
        self,
        *,
        tell: Callable[[Event], None],
        answered: Callable[[Mapping[str, Any], bool], None],
        learned: Callable[[Habits], None],
        clock: Callable[[], float],
        turn: Callable[[], Awaitable[None]],
        spawn: Callable[[Work], object],
    ) -> None:
        self.activity: Activity | None = None  # of a process that has answered, or was adopted
        self.heartbeat_at: float | None = None
        self.busy_at = -math.inf  # when it last began to work on a request
        self.missed = 0  # heartbeats that it ought to have answered
        self.habits = Habits()
        self._tell, self._answered, self._learned = tell, answered, learned
        self._clock, self._turn, self._spawn = clock, turn, spawn
        self._channels: Channels | None = None
        self._generation = 0
        self._alive = asyncio.Event()  # whether anything has been heard of this process
        self._unsure = asyncio.Event()  # whether there may be something to ask
        self._reported = False  # whether its silence has been told
        self._beat_at = 0.0
        self._pinged_in: frozenset[str] = frozenset()  # requests at the last heartbeat
        self._missed_busy = False

    @property
    def execution_state(self) -> str | None:
        """``busy``, ``idle``, ``unknown`` for one that was adopted; None before it answered."""
        return self.activity.state if self.activity else None

    @property
    def is_sure(self) -> bool:
        """Whether the kernel is idle beyond what it has published."""
        return self.activity is not None and self.activity.is_sure

    @property
    def heartbeat(self) -> str:
        """``alive`` if the last heartbeat was answered, ``missed`` or ``unknown``."""
        if self._channels is None or self.heartbeat_at is None:
            return "unknown"
        if self._missed_busy and not self.missed:
            return "unknown"  # it may be one that answers none while it works
        return "missed" if self.missed else "alive"

    def begin(self, *, fresh: bool, habits: Habits) -> None:
        """Forget the process before; ``fresh`` where the first answer is still awaited."""
        self.habits = habits
        self.activity = None if fresh else self._new_activity(known=False)
        self.missed, self.heartbeat_at, self._beat_at = 0, None, self._clock()
        self.busy_at = -math.inf
        self._reported, self._missed_busy, self._pinged_in = False, False, frozenset()
        self._alive.clear()
        self._unsure.clear()

    def _new_activity(self, *, known: bool) -> Activity:
        return Activity(self._clock(), known=known, overlaps=self.habits.overlaps)

    def listen(
        self,
        channels: Channels,
        generation: int,
        *,
        fresh: bool,
        answer: Mapping[str, Any] | None = None,
        beats: bool = True,
    ) -> Iterator[Work]:
        """Give what is to be done side by side from now on, until `end`.

        Parameters
        ----------
        channels : Channels
            To the kernel; `end` closes them.
        generation : int
            Of its process.
        fresh : bool
            Whether its first answer is still awaited.
        answer : mapping, optional
            What it has replied already, if so.
        beats : bool
            Whether it is ever asked for a heartbeat.
        """
        self._channels, self._generation = channels, generation
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
        """Let go of the kernel."""
        self.activity = None
        if self._channels is not None:
            self._channels.close()
            self._channels = None

    async def request(self, kind: str, content: Mapping[str, Any]) -> None:
        """Send a request on the control channel."""
        if self._channels is not None:
            await self._channels.request(kind, content)

    async def control(self, kind: str, content: Mapping[str, Any]) -> bool:
        """Send a request on the control channel, and wait for its reply; false without one."""
        if self._channels is None:
            return False
        await self._channels.control(kind, content)
        return True

    # --- which requests it works on

    def _status_seen(self, request: str, busy: bool) -> None:  # noqa: FBT001  # see `Channels`
        self._show_life()
        if busy:
            self.busy_at = self._clock()
        if self.activity is None:
            return
        self.activity.said(request, busy=busy, now=self._clock())
        if self.activity.overlaps and not self.habits.overlaps:
            self.learn(replace(self.habits, overlaps=True))
        self._unsure.set()

    def _lost(self) -> None:
        if self.activity is not None:
            self.activity.lost(self._clock())
            self._unsure.set()

    async def _keep_right(self, channels: Channels) -> None:
        """Ask the kernel whenever what it has published leaves open whether it works."""
        await self._unsure.wait()
        await self._turn()  # where many were adopted at once, they are asked one after another
        while True:
            await self._unsure.wait()
            due = self.activity.due(channels.heard_at) if self.activity else None
            if due is None:
                self._unsure.clear()
            elif due > self._clock():
                await asyncio.sleep(due - self._clock())  # until it is due, if nothing changes
            else:
                await self._question(channels)

    async def _question(self, channels: Channels) -> None:
        """Ask each shell; the answer may take as long as a cell does.

        Only one question waits at a time, and none that iopub has answered meanwhile.
        """
        activity = self.activity
        if activity is None:
            return
        question = activity.asked(self._clock())
        asking = asyncio.ensure_future(ask_each_shell(channels))
        try:
            await asyncio.wait({asking}, timeout=ANSWER_S)
            if not asking.done():
                activity.unanswered()
            while not asking.done() and activity.due(channels.heard_at) is not None:
                await asyncio.wait({asking}, timeout=RECHECK_S)
            if asking.done():
                await self._take_answer(asking, activity, question)
        finally:
            asking.cancel()

    async def _take_answer(
        self, asking: asyncio.Future[Mapping[str, Any]], activity: Activity, question: Question
    ) -> None:
        if error := asking.exception():
            log.warning("asking a kernel whether it is idle: %s", error)
            await asyncio.sleep(CONFIRM)  # what it replied makes no sense: not so soon again
            return
        reply = asking.result()
        self._show_life()
        await asyncio.sleep(LAG_S)  # an `idle` may come a moment after the reply
        self._answered(reply, False)  # noqa: FBT003  # told in the constructor's docstring
        activity.answered(question, self._clock())

    async def is_idle(self) -> bool:
        """Ask each shell: only a kernel that runs nothing replies on all of them in time.

        What iopub said last is not proof: a cell that holds the GIL keeps ipykernel from
        saying that it is busy.
        """
        channels, activity = self._channels, self.activity
        if channels is None or activity is None:
            return False
        since = activity.active_at
        try:
            async with asyncio.timeout(IDLE_PROOF):
                await ask_each_shell(channels)
        except (TimeoutError, ValueError):
            return False
        return activity is self.activity and activity.is_sure and activity.active_at == since

    # --- the first answer

    async def _first_answer(self, channels: Channels, generation: int) -> None:
        """Wait until it answers, and then for what it says: before, it cannot be connected to."""
        self._take_first(await ask_until_answered(channels, FIRST_PATIENCE), generation)
        await channels.watch_status(self._status_seen, self._lost)

    def _take_first(self, reply: Mapping[str, Any], generation: int) -> None:
        self._show_life()
        self.activity = self.activity or self._new_activity(known=True)
        self._answered(reply, True)  # noqa: FBT003  # told in the constructor's docstring
        self._tell(Answered(generation))

    async def _confirm(self, channels: Channels, generation: int) -> None:
        """Wait for a sign of life of an adopted kernel; a silent one is ours all the same.

        Many kernels answer nothing on control, and none on shell during a cell; so whatever is
        heard of it counts.
        """
        await self._turn()
        asking = asyncio.ensure_future(channels.kernel_info("control"))
        heard = asyncio.ensure_future(self._alive.wait())
        try:
            await asyncio.wait(
                {asking, heard}, timeout=CONFIRM, return_when=asyncio.FIRST_COMPLETED
            )
            if not heard.done() and not asking.done():
                self._tell(Silent(generation))
            await asyncio.wait({asking, heard}, return_when=asyncio.FIRST_COMPLETED)
            self._show_life()
            self._tell(HeartbeatBack(generation))
        finally:
            asking.cancel()
            heard.cancel()

    def _show_life(self) -> None:
        """Take note of anything that is heard of the process."""
        self._alive.set()
        if self._reported:
            self._reported = False
            self._tell(HeartbeatBack(self._generation))

    # --- heartbeats

    async def _first_beats(self, channels: Channels) -> None:
        """Hear a heartbeat soon: its round may be much later."""
        if self.activity is None:
            await self._alive.wait()
        for pause in FIRST_BEATS_S:
            await asyncio.sleep(pause)  # nothing tells when it is answered
            if channels.heartbeat():
                self._heard()
                return

    def beat(self, allowed: int) -> None:
        """Take part in a round of heartbeats.

        Parameters
        ----------
        allowed : int
            How many in a row may be missing.
        """
        if self._channels is None:
            return
        answered = self._channels.heartbeat()
        if answered:
            self._heard()
        elif answered is not None and self._missed_one() and self.missed % allowed == 0:
            self._spawn(self._check_silence(self._channels))
        self._beat_at, self._pinged_in = self._clock(), self._requests()

    def _requests(self) -> frozenset[str]:
        return frozenset(self.activity.open if self.activity else ())

    def _heard(self) -> None:
        busy = bool(self._pinged_in & self._requests())
        self.learn(self.habits.heard(busy=busy, missed_busy=self._missed_busy))
        self.missed, self._missed_busy, self.heartbeat_at = 0, False, self._clock()
        self._show_life()

    def _missed_one(self) -> bool:
        """Count a heartbeat that was not answered, unless that may be how this kernel is."""
        activity = self.activity
        idle = activity and activity.state == "idle" and activity.active_at <= self._beat_at
        self._missed_busy = self._missed_busy or bool(self._pinged_in & self._requests())
        if idle or self.habits.must_beat_busy:
            self.missed += 1
            return True
        self.missed = 0
        return False

    async def _check_silence(self, channels: Channels) -> None:
        """Report missing heartbeats, unless the kernel answers what it is asked."""
        generation = self._generation
        try:
            async with asyncio.timeout(IDLE_PROOF):
                await channels.kernel_info()
            self._show_life()
        except TimeoutError:
            if self.missed and not self._reported:
                self._reported = True
                self._tell(HeartbeatMissed(generation))

    def learn(self, habits: Habits) -> None:
        """Keep what has been learned of the kernel."""
        if habits != self.habits:
            self.habits = habits
            self._learned(habits)


async def ask_each_shell(channels: Channels) -> Mapping[str, Any]:
    """Ask a kernel on its shell and on each of its subshells, and give the first reply.

    Raises
    ------
    ValueError
        If it says that it has subshells, and does not list them.
    """
    reply = await channels.kernel_info()
    features = reply.get("supported_features")
    if isinstance(features, list) and SUBSHELLS in features:
        await _ask_subshells(channels)
    return reply


async def _ask_subshells(channels: Channels) -> None:
    """Ask each subshell, and wait for those that are still there.

    One that was deleted answers nothing. They are listed again, and not asked again: where a
    cell takes hours, questions would pile up behind it.
    """
    listed = await channels.list_subshells()
    asking = {one: asyncio.ensure_future(channels.kernel_info(subshell=one)) for one in listed}
    try:
        while asking:
            done, waiting = await asyncio.wait(
                asking.values(), timeout=RECHECK_S, return_when=asyncio.FIRST_EXCEPTION
            )
            for answered in done:
                answered.result()
            there = await channels.list_subshells() if waiting else ()
            for gone in asking.keys() - set(there):
                asking.pop(gone).cancel()
    finally:
        for question in asking.values():
            question.cancel()


async def ask_until_answered(channels: Channels, pause: float) -> Mapping[str, Any]:
    """Wait for a starting kernel's answer; ask again, should it have dropped the question."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                return await channels.kernel_info()
        pause = min(pause * 2, 60.0)
