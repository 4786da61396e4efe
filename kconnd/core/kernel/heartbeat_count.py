"""Counts the consecutive missed heartbeats of one process.

A heartbeat that a kernel misses while it works on a request counts only if the kernel is known to
answer heartbeats then (`kconnd.core.kernel.habits`). All times are monotonic seconds.
"""

from dataclasses import dataclass, field

NO_REQUESTS: frozenset[str] = frozenset()


@dataclass
class HeartbeatCount:
    """The heartbeats of one process.

    Parameters
    ----------
    sent_at : float
        The time of the last heartbeat; at first, the time at which the count begins.
    answered_at : float, optional
        The time of the last answer; None before the first answer.
    missed : int
        The number of consecutive missed heartbeats that count.
    missed_busy : bool
        Whether a heartbeat was missed during a request since the last answer.
    open_requests : frozenset of str
        The requests that were open at the last heartbeat.
    """

    sent_at: float
    answered_at: float | None = None
    missed: int = 0
    missed_busy: bool = False
    open_requests: frozenset[str] = field(default=NO_REQUESTS)

    @property
    def status(self) -> str:
        """``alive`` if the last heartbeat was answered, else ``missed`` or ``unknown``."""
        if self.answered_at is None:
            return "unknown"
        if self.missed_busy and not self.missed:
            return "unknown"  # the kernel may not answer heartbeats while it is busy
        return "missed" if self.missed else "alive"

    def record_sent(self, now: float, open_requests: frozenset[str]) -> None:
        """Record that a heartbeat is sent while these requests are open."""
        self.sent_at, self.open_requests = now, open_requests

    def is_same_request(self, open_requests: frozenset[str]) -> bool:
        """Return whether a request has been open since the last heartbeat was sent."""
        return bool(self.open_requests & open_requests)

    def record_answer(self, now: float) -> None:
        """Record that the last heartbeat was answered."""
        self.missed, self.missed_busy, self.answered_at = 0, False, now

    def record_missed(
        self, open_requests: frozenset[str], *, idle_since: float | None, must_beat_busy: bool
    ) -> bool:
        """Record that the last heartbeat was missed; return whether it counts.

        Parameters
        ----------
        open_requests : frozenset of str
            The requests that are open now.
        idle_since : float, optional
            The time of the kernel's last activity if the kernel is idle now, else None.
        must_beat_busy : bool
            Whether the kernel is known to answer heartbeats during a request.
        """
        self.missed_busy = self.missed_busy or self.is_same_request(open_requests)
        idle = idle_since is not None and idle_since <= self.sent_at
        counts = idle or must_beat_busy
        self.missed = self.missed + 1 if counts else 0
        return counts
