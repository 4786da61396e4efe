"""Which requests a kernel works on, from the ``status`` messages that it publishes.

A kernel publishes ``busy`` and then ``idle`` for each request, with the request as parent. It is
busy while a request has said busy and not idle, whatever its type and whichever shell or
subshell works on it. iopub may drop messages, so what was published is no proof. Three things
lead to a question, which each shell of the kernel has to answer:

- a request stays open, and the kernel is silent;
- messages may have been lost (the reader fell behind, or the connection was made anew);
- the kernel was adopted, so that what it said before is not known.

A shell answers in the order of its requests, so an answer proves that what was open before the
question is done. The proof is good where an ``idle`` may have been lost. Where nothing was lost,
the kernel may answer while it works (async-kernel does): the request then no longer makes the
kernel busy, but keeps it from being stopped as idle until its ``idle`` comes. A kernel whose
``idle`` came long after the answer has shown that it does so; its answers prove nothing then.

Rules. No clock: times are arguments, in monotonic seconds.
"""

import math
from dataclasses import dataclass

QUIET_PERIOD_S = 1.5  # without news, after which a kernel with an open request is asked
PROBE_INTERVAL_S = 30.0  # between two questions to a kernel that goes on publishing
ANSWER_TIMEOUT_S = (
    1.0  # after which a kernel that may have lost messages and does not answer is busy
)
LATE_IDLE_S = 2.0  # an `idle` that comes so long after the answer was no matter of transport
MAX_OPEN_REQUESTS = 1000  # requests; with more the oldest is forgotten, and the kernel asked


@dataclass(frozen=True)
class Probe:
    """What was open when a kernel was asked, and when that was in monotonic seconds."""

    at: float
    requests: frozenset[str]


class Activity:
    """The requests that one process of a kernel works on.

    Parameters
    ----------
    now : float
        Monotonic seconds.
    history_complete : bool
        Whether all that it ever said has been heard; false for a kernel that was adopted.
    overlaps : bool
        Whether it has been seen to answer on shell while it worked on a request.
    """

    def __init__(self, now: float, *, history_complete: bool, overlaps: bool = False) -> None:
        self.open: dict[str, float] = {}  # since when each request is
        self.unproven: dict[str, float] = {}  # answered since, and never said idle
        self.active_at = now  # the last sign of a request that was not our own
        self._history_complete = history_complete
        self.overlaps = overlaps
        self._lost_at = -math.inf
        self._settled_at = -math.inf  # when the question was asked that was answered last
        self._asked_at = (
            now if history_complete else -math.inf
        )  # one that was adopted is asked at once
        self._deaf = False

    @property
    def state(self) -> str:
        """``busy``, ``idle`` or ``unknown``."""
        if self.open or self._deaf:
            return "busy"
        return "idle" if self._history_complete else "unknown"

    @property
    def is_sure(self) -> bool:
        """Whether the kernel is idle and there is no doubt about it."""
        return self.state == "idle" and not self.unproven and not self._may_have_lost

    @property
    def _may_have_lost(self) -> bool:
        return self._lost_at > self._settled_at

    def record_status(self, request: str, *, busy: bool, now: float) -> None:
        """Take a status of a request."""
        self.active_at = now
        if busy:
            self._open(request, now)
        elif self.open.pop(request, None) is None and request in self.unproven:
            answered_at = self.unproven.pop(request)
            self.overlaps = self.overlaps or now - answered_at >= LATE_IDLE_S

    def _open(self, request: str, now: float) -> None:
        self.unproven.pop(request, None)
        self.open.setdefault(request, now)
        if len(self.open) > MAX_OPEN_REQUESTS:
            del self.open[next(iter(self.open))]
            self.record_loss(now)

    def record_loss(self, now: float) -> None:
        """Take note that messages may have been lost."""
        self._lost_at = now

    def next_probe_at(self, heard_at: float) -> float | None:
        """Give when the kernel is to be asked; None where there is nothing to ask.

        ``heard_at`` is when it last published anything.
        """
        if not self.open and self._history_complete and not self._may_have_lost:
            return None
        news = max(self.active_at, self._lost_at)
        if self._settled_at > news:
            return self._asked_at + PROBE_INTERVAL_S
        return min(max(news, heard_at) + QUIET_PERIOD_S, self._asked_at + PROBE_INTERVAL_S)

    def begin_probe(self, now: float) -> Probe:
        """Take note that each shell is being asked."""
        self._asked_at = now
        return Probe(now, frozenset(self.open))

    def record_no_answer(self) -> None:
        """Take note that a shell has not answered: where messages were lost, it works."""
        self._deaf = self._may_have_lost

    def record_answer(self, question: Probe, now: float) -> None:
        """Take note that each shell has answered a question."""
        self._settled_at, self._deaf = question.at, False
        if not self._history_complete:
            self._history_complete, self.active_at = True, now
        if not self.overlaps:  # an `idle` that was missing has been lost by now
            self.unproven = {k: at for k, at in self.unproven.items() if at > self._lost_at}
        for request in question.requests & self.open.keys():
            self._settle(request, now)

    def _settle(self, request: str, now: float) -> None:
        """Close a request that is done by what the answer proves."""
        lost = self._lost_at >= self.open[request]
        if self.overlaps and not lost:
            return
        del self.open[request]
        self.active_at = now
        if self.overlaps or not lost:
            self.unproven[request] = now
            if len(self.unproven) > MAX_OPEN_REQUESTS:
                del self.unproven[next(iter(self.unproven))]
