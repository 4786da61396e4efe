"""The observed behaviour of a kernel's software, such as whether it answers while it works.

Rules. No behaviour is assumed before the kernel has shown it. A missing heartbeat is a fault only
if this kernel answers in such a situation: a kernel for R answers none during a cell, and akernel
never answers any.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Habits:
    """The observed behaviour of one kernel.

    Parameters
    ----------
    of : str
        The software that showed it; other software starts with no habits.
    beats : bool
        Whether the kernel has answered a heartbeat.
    beats_busy : bool
        Whether it has answered a heartbeat during a request.
    silent_busy : bool
        Whether it has missed a heartbeat during a request and answered later.
    overlaps : bool
        Whether it answers on shell during a request.
    """

    of: str = ""
    beats: bool = False
    beats_busy: bool = False
    silent_busy: bool = False
    overlaps: bool = False

    def for_software(self, software: str) -> "Habits":
        """Return these habits if this software showed them, else empty ones."""
        return self if self.of == software else Habits(of=software)

    def with_heartbeat(self, *, busy: bool, missed_busy: bool) -> "Habits":
        """Learn from an answered heartbeat.

        Parameters
        ----------
        busy : bool
            Whether the kernel worked on one request from the heartbeat to its answer.
        missed_busy : bool
            Whether it missed an earlier heartbeat while it worked on one request.
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
