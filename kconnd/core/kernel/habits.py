"""The observed behaviour of a kernel's software, such as whether it answers during a request.

Rules. Habits come from observation alone. A missing heartbeat is a fault if the same kernel has
answered heartbeats in the same situation before. Otherwise it is no fault: for example, the R
kernel IRkernel answers no heartbeat during a cell, and the Python kernel ``akernel`` never answers
a heartbeat.
"""

from dataclasses import dataclass, replace

from kconnd.core.launch.capabilities import BEATS_BUSY, BEATS_IDLE, Observations


@dataclass(frozen=True)
class Habits:
    """The observed behaviour of one kernel.

    Parameters
    ----------
    of : str
        The software that was observed: implementation and version. The habits do not apply to other
        software.
    beats : bool
        Whether the kernel has answered a heartbeat.
    beats_busy : bool
        Whether the kernel has answered a heartbeat during a request.
    silent_busy : bool
        Whether the kernel has missed a heartbeat during a request and answered a later heartbeat.
    overlaps : bool
        Whether the kernel answers one request on its shell channel while it works on another
        request.
    """

    of: str = ""
    beats: bool = False
    beats_busy: bool = False
    silent_busy: bool = False
    overlaps: bool = False

    def for_software(self, software: str) -> "Habits":
        """Return these habits if ``software`` is the observed software, else empty habits."""
        return self if self.of == software else Habits(of=software)

    def with_heartbeat(self, *, busy: bool, missed_busy: bool) -> "Habits":
        """Return the habits after the kernel has answered a heartbeat.

        Parameters
        ----------
        busy : bool
            Whether the kernel worked on one request during the whole time from the heartbeat to its
            answer.
        missed_busy : bool
            Whether the kernel missed an earlier heartbeat during a request.
        """
        return replace(
            self,
            beats=True,
            beats_busy=self.beats_busy or (busy and not missed_busy),
            silent_busy=self.silent_busy or missed_busy,
        )

    @property
    def must_beat_busy(self) -> bool:
        """Whether a missing heartbeat during a request is a fault."""
        return self.beats_busy and not self.silent_busy


def observe_heartbeat(*, busy: bool, missed_busy: bool) -> Observations:
    """Return the fact that an answered heartbeat shows; the parameters are those of `Habits`."""
    if missed_busy:
        return {BEATS_BUSY: (False, "a heartbeat was missed during a request, a later one not")}
    if busy:
        return {BEATS_BUSY: (True, "a heartbeat was answered during a request")}
    return {BEATS_IDLE: (True, "a heartbeat was answered")}
