"""Tracks which requests a kernel works on, from its ``status`` messages.

For each request, a kernel publishes a ``busy`` message and later an ``idle`` message; the parent
header of both messages contains the id of the request. A request of any type, on the main shell or
on a subshell, is open from its ``busy`` to its ``idle``. A kernel with an open request is busy.
A subshell runs cells in a thread of its own, beside those of the main shell. The parent header of a
status names the subshell of the request. iopub may drop messages, so the published status is no
proof. In three situations the daemon sends a probe, a request that the main shell and each subshell
of the kernel have to answer:

- a request stays open, and the kernel is silent;
- messages may have been lost, because the daemon read too slowly or reconnected;
- the kernel was adopted, so its earlier messages are unknown.

A shell answers requests in the order in which they arrive. The answer to a probe therefore shows
that the requests that were open before the probe are done, and that their ``idle`` messages were
lost. If no message can have been lost, a missing ``idle`` has another explanation: some kernels,
such as async-kernel, answer a probe while they work on a request. Even then, a request that was
open at the probe no longer counts as open after the answer. An idle stop of the kernel (by
``idle.stop_after``) nevertheless waits until the ``idle`` of this request arrives. If the ``idle``
arrives long after the answer to the probe, the kernel is known to answer during requests. From then
on, an answer of this kernel proves nothing about open requests.

Rule: this module reads no clock. Times are arguments, in monotonic seconds.
"""

import math
from dataclasses import dataclass

QUIET_PERIOD_S = 1.5  # a kernel with an open request is probed after this silence
PROBE_INTERVAL_S = 30.0  # between two probes of a kernel that keeps publishing
# If messages may have been lost, a kernel that does not answer a probe in this time counts as busy.
ANSWER_TIMEOUT_S = 1.0
LATE_IDLE_S = 2.0  # the transport never delays an `idle` this long after the answer to a probe
MAX_OPEN_REQUESTS = 1000  # above it, the oldest request is dropped and the kernel is probed


@dataclass(frozen=True)
class Probe:
    """A probe of the main shell and all subshells.

    Parameters
    ----------
    at : float
        The time of the probe, in monotonic seconds.
    requests : frozenset of str
        The ids of the requests that were open at that time.
    """

    at: float
    requests: frozenset[str]


@dataclass(frozen=True)
class OpenRequests:
    """The requests that a kernel works on at one time.

    Parameters
    ----------
    main : frozenset of str
        The ids of the requests on the main shell.
    subshells : frozenset of str
        The ids of the requests on subshells.
    unproven : frozenset of str
        The ids of those requests that the kernel may have finished, without saying so.
    """

    main: frozenset[str] = frozenset()
    subshells: frozenset[str] = frozenset()
    unproven: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Return whether the kernel works on any request."""
        return bool(self.main or self.subshells)

    @property
    def is_in_subshells_only(self) -> bool:
        """Whether all requests are on subshells, while the main shell is idle."""
        return bool(self.subshells) and not self.main


class Activity:
    """The requests that one process of a kernel works on.

    Parameters
    ----------
    now : float
        The present time in monotonic seconds.
    history_complete : bool
        Whether the daemon received every message of the process; false for an adopted kernel.
    overlaps : bool
        Whether the kernel is known to answer one request on its shell channel while it works on
        another request.
    """

    def __init__(self, now: float, *, history_complete: bool, overlaps: bool = False) -> None:
        self.open: dict[str, float] = {}  # open requests, each with the time of its `busy`
        # Requests that the answer to a probe has closed, each with the time of the answer. The
        # `idle` of these requests has not arrived.
        self.unproven: dict[str, float] = {}
        self.active_at = now  # the time of the last sign of a client's request
        self._history_complete = history_complete
        self.overlaps = overlaps
        self._lost_at = -math.inf  # when messages may have been lost last
        self._settled_at = -math.inf  # when the last answered probe was sent
        # An adopted kernel is probed at once.
        self._probed_at = now if history_complete else -math.inf
        self._is_deaf = False  # messages may have been lost, and a shell has not answered a probe
        self._in_subshell: set[str] = set()  # the requests on subshells

    @property
    def state(self) -> str:
        """``busy``, ``idle`` or ``unknown``."""
        if self.open or self._is_deaf:
            return "busy"
        return "idle" if self._history_complete else "unknown"

    @property
    def open_requests(self) -> OpenRequests:
        """The requests that the kernel may work on, by the kind of their shell.

        These are the open requests, and those whose end is not proven.
        """
        unproven = frozenset(self.unproven)
        requests = frozenset(self.open) | unproven
        return OpenRequests(requests - self._in_subshell, requests & self._in_subshell, unproven)

    @property
    def is_sure(self) -> bool:
        """Whether the kernel is certainly idle."""
        return self.state == "idle" and not self.unproven and not self._may_have_lost

    @property
    def _may_have_lost(self) -> bool:
        return self._lost_at > self._settled_at

    def record_status(self, request: str, *, busy: bool, now: float, subshell: str = "") -> None:
        """Record that the kernel published ``busy`` or ``idle`` for a request."""
        self.active_at = now
        self._in_subshell &= self.open.keys() | self.unproven.keys()
        if busy:
            self._open(request, now)
            if subshell:
                self._in_subshell.add(request)
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
        """Return the time of the next probe; None if no probe is needed.

        ``heard_at`` is the time of the kernel's last message of any kind.
        """
        if not self.open and self._history_complete and not self._may_have_lost:
            return None
        changed_at = max(self.active_at, self._lost_at)
        if self._settled_at > changed_at:
            return self._probed_at + PROBE_INTERVAL_S
        return min(max(changed_at, heard_at) + QUIET_PERIOD_S, self._probed_at + PROBE_INTERVAL_S)

    def begin_probe(self, now: float) -> Probe:
        """Record that a probe is sent to each shell, and return the probe."""
        self._probed_at = now
        return Probe(now, frozenset(self.open))

    def record_no_answer(self) -> None:
        """Record that a shell has not answered a probe.

        If messages may have been lost, the kernel then counts as busy.
        """
        self._is_deaf = self._may_have_lost

    def record_answer(self, probe: Probe, now: float) -> None:
        """Record that each shell has answered a probe."""
        self._settled_at, self._is_deaf = probe.at, False
        if not self._history_complete:
            self._history_complete, self.active_at = True, now
        if not self.overlaps:  # here, a missing `idle` means a lost message
            self.unproven = {k: at for k, at in self.unproven.items() if at > self._lost_at}
        for request in probe.requests & self.open.keys():
            self._settle(request, now)

    def _settle(self, request: str, now: float) -> None:
        """Close a request that was open at an answered probe, unless the answer proves nothing."""
        lost = self._lost_at >= self.open[request]
        if self.overlaps and not lost:
            return
        del self.open[request]
        self.active_at = now
        if self.overlaps or not lost:
            self.unproven[request] = now
            if len(self.unproven) > MAX_OPEN_REQUESTS:
                del self.unproven[next(iter(self.unproven))]
