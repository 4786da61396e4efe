"""The observed behaviour of a kernel's software, such as whether it answers during a request.

Rules. Only observed behaviour counts. A missing heartbeat is a fault only if the same kernel has
answered heartbeats in the same situation. Some kernels do not: a kernel for R answers no heartbeat
during a cell, and akernel answers none at all.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Habits:
    """The observed behaviour of one kernel.

    Parameters
    ----------
    of : str
        The software that was observed. Other software starts with no habits.
    beats : bool
        Whether the kernel has answered a heartbeat.
    beats_busy : bool
        Whether the kernel has answered a heartbeat during a request.
    silent_busy : bool
        Whether the kernel has missed a heartbeat during a request and answered a later one.
    overlaps : bool
        Whether the kernel answers on shell during a request.
    """

    of: str = ""
    beats: bool = False
    beats_busy: bool = False
    silent_busy: bool = False
    overlaps: bool = False

    def for_software(self, software: str) -> "Habits":
        """Return these habits if they belong to this software, else empty habits."""
        return self if self.of == software else Habits(of=software)

    def with_heartbeat(self, *, busy: bool, missed_busy: bool) -> "Habits":
        """Learn from an answered heartbeat.

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
