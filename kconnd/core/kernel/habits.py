"""What the daemon has learned of how a kernel's software behaves, and what follows from it.

Rules. Nothing is taken for granted of a kernel that has not shown it. A heartbeat that is
missing is a fault only where this kernel answers in such a situation: one that runs R answers
none during a cell, one that runs akernel never does.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Habits:
    """What one kernel has shown.

    Parameters
    ----------
    of : str
        The software that it was learned of; other software has habits of its own.
    beats : bool
        Whether it has answered a heartbeat.
    beats_busy : bool
        Whether it has answered one while it worked on a request.
    silent_busy : bool
        Whether it has left one unanswered while it worked, and answered later.
    overlaps : bool
        Whether it answers on shell while it works on a request.
    """

    of: str = ""
    beats: bool = False
    beats_busy: bool = False
    silent_busy: bool = False
    overlaps: bool = False

    def for_software(self, software: str) -> "Habits":
        """Give what is known of a kernel that runs this software."""
        return self if self.of == software else Habits(of=software)

    def with_heartbeat(self, *, busy: bool, missed_busy: bool) -> "Habits":
        """Learn from an answered heartbeat.

        Parameters
        ----------
        busy : bool
            Whether it worked on one request from the heartbeat to the answer.
        missed_busy : bool
            Whether it left one unanswered before, while it worked on one request.
        """
        return replace(
            self,
            beats=True,
            beats_busy=self.beats_busy or (busy and not missed_busy),
            silent_busy=self.silent_busy or missed_busy,
        )

    @property
    def must_beat_busy(self) -> bool:
        """Whether silence while it works is a fault."""
        return self.beats_busy and not self.silent_busy
