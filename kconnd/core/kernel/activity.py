"""Tracks which requests a kernel works on, by the ``status`` messages that it publishes.

A kernel publishes ``busy`` and then ``idle`` for each request, with the request as parent. A
request is open from its ``busy`` to its ``idle``, whatever its type and whichever shell or
subshell executes it, and a kernel with an open request is busy. iopub may drop messages, so the
published status is no proof. Three situations lead to a probe, a request that each shell of the
kernel has to answer:

- a request stays open, and the kernel is silent;
- messages may have been lost: the reader fell behind, or the connection was made anew;
- the kernel was adopted, so its earlier messages are unknown.

A shell answers in the order of its requests. So an answer proves that the requests which were open
before the probe are done. The proof holds if an ``idle`` may have been lost. If no message was
lost, the kernel may have answered during a request, as async-kernel does. The request then no
longer makes the kernel busy, but the kernel is not stopped as idle until the ``idle`` comes. If
the ``idle`` comes long after the answer, the kernel has shown that it answers during requests, and
its answers prove nothing from then on.

Rules. No clock: times are arguments, in monotonic seconds.
"""

import math
from dataclasses import dataclass

QUIET_PERIOD_S = 1.5  # of silence, before a kernel with an open request is probed
PROBE_INTERVAL_S = 30.0  # between two probes of a kernel that goes on publishing
ANSWER_TIMEOUT_S = 1.0  # a kernel that may have lost messages and does not answer in time is busy
LATE_IDLE_S = 2.0  # an `idle` this long after the answer was not delayed by the transport
MAX_OPEN_REQUESTS = 1000  # one more drops the oldest and leads to a probe


@dataclass(frozen=True)
class Probe:
    """A question to all shells: its time in monotonic seconds, and the requests then open."""

    at: float
    requests: frozenset[str]


class Activity:
    """The requests that one process of a kernel works on.

    Parameters
    ----------
    now : float
        Monotonic seconds.
    history_complete : bool
        Whether every message of the process was received; false for an adopted kernel.
    overlaps : bool
        Whether the kernel was observed to answer on shell during a request.
    """

    def __init__(self, now: float, *, history_complete: bool, overlaps: bool = False) -> None:
        self.open: dict[str, float] = {}  # open requests, each with the time of its `busy`
        self.unproven: dict[str, float] = {}  # closed by an answer, still without `idle`
        self.active_at = now  # the last sign of a request that is not the daemon's own
        self._history_complete = history_complete
        self.overlaps = overlaps
        self._lost_at = -math.inf  # the last possible loss of messages
        self._settled_at = -math.inf  # the time of the last probe that was answered
        self._probed_at = now if history_complete else -math.inf  # an adopted kernel is due at once
        self._is_deaf = False  # it may have lost messages and has not answered a probe

    @property
    def state(self) -> str:
        """``busy``, ``idle`` or ``unknown``."""
        if self.open or self._is_deaf:
            return "busy"
        return "idle" if self._history_complete else "unknown"

    @property
    def is_sure(self) -> bool:
        """Whether the kernel is idle beyond doubt."""
        return self.state == "idle" and not self.unproven and not self._may_have_lost

    @property
    def _may_have_lost(self) -> bool:
        return self._lost_at > self._settled_at

    def record_status(self, request: str, *, busy: bool, now: float) -> None:
        """Record a published status of a request."""
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
        """Record that messages may have been lost."""
        self._lost_at = now

    def next_probe_at(self, heard_at: float) -> float | None:
        """Return the time of the next probe; None if none is needed.

        ``heard_at`` is the time of the last message of any kind.
        """
        if not self.open and self._history_complete and not self._may_have_lost:
            return None
        changed_at = max(self.active_at, self._lost_at)
        if self._settled_at > changed_at:
            return self._probed_at + PROBE_INTERVAL_S
        return min(max(changed_at, heard_at) + QUIET_PERIOD_S, self._probed_at + PROBE_INTERVAL_S)

    def begin_probe(self, now: float) -> Probe:
        """Record that a probe is sent to each shell, and return it."""
        self._probed_at = now
        return Probe(now, frozenset(self.open))

    def record_no_answer(self) -> None:
        """Record that a shell has not answered; after a loss of messages it counts as busy."""
        self._is_deaf = self._may_have_lost

    def record_answer(self, probe: Probe, now: float) -> None:
        """Record that each shell has answered a probe."""
        self._settled_at, self._is_deaf = probe.at, False
        if not self._history_complete:
            self._history_complete, self.active_at = True, now
        if not self.overlaps:  # a missing `idle` was lost
            self.unproven = {k: at for k, at in self.unproven.items() if at > self._lost_at}
        for request in probe.requests & self.open.keys():
            self._settle(request, now)

    def _settle(self, request: str, now: float) -> None:
        """Close a request that the answer to a probe proves done."""
        lost = self._lost_at >= self.open[request]
        if self.overlaps and not lost:
            return
        del self.open[request]
        self.active_at = now
        if self.overlaps or not lost:
            self.unproven[request] = now
            if len(self.unproven) > MAX_OPEN_REQUESTS:
                del self.unproven[next(iter(self.unproven))]
