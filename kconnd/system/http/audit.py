"""Who asked for what and what came of it: a line of the log for each change and each key.

Rules. What changed something, may have, or handed out a key has a line of its own, always.
Of what came to nothing, each user has a few lines a minute, and the rest as one sum: nobody can
flood the log, in which others' lines would be dropped. A line is printable, whatever was asked.
"""

import asyncio
import logging
from dataclasses import dataclass

from kconnd.core.access import Peer
from kconnd.core.launch.kernel_files import without_warm_suffix
from kconnd.core.names import parse_name
from kconnd.errors import UsageError
from kconnd.system.systemd.journal import AUDIT

FEW = 5  # lines in a minute about what came to nothing
MINUTE = 60.0
UNHEARD = "hung up"  # before it was known who it is
CHANGED_NOTHING = frozenset(
    {UNHEARD, "refused", "usage", "no-such-kernel", "elsewhere", "bad-profile", "not-running"}
)

log = logging.getLogger("kconnd")


@dataclass
class _Tally:
    """What came to nothing of one user, in the minute that runs."""

    told: int = 0
    untold: int = 0


class Audit:
    """Writes the lines.

    Parameters
    ----------
    minute : float
        Seconds after which there is a sum.
    """

    def __init__(self, minute: float = MINUTE) -> None:
        self._minute = minute
        self._tallies: dict[int, _Tally] = {}

    def note(self, peer: Peer, verb: str, name: str, outcome: str) -> None:
        """Log what was asked, or count it."""
        if outcome in CHANGED_NOTHING and not self._has_a_line(peer.uid):
            return
        fields = {
            "MESSAGE_ID": AUDIT,
            "KCONND_UID": peer.uid,
            "KCONND_PID": peer.pid,
            "KCONND_VERB": verb,
            "KCONND_KERNEL": (shown := printable(name)),
            "KCONND_OUTCOME": outcome,
        }
        told = (peer.uid, peer.pid, verb, shown, outcome)
        log.info("uid %d, pid %d asked for %s %s: %s", *told, extra=fields)

    def _has_a_line(self, uid: int) -> bool:
        tally = self._tallies.get(uid)
        if tally is None:
            tally = self._tallies[uid] = _Tally()
            asyncio.get_running_loop().call_later(self._minute, self._sum_up, uid)
        if tally.told < FEW:
            tally.told += 1
            return True
        tally.untold += 1
        return False

    def _sum_up(self, uid: int) -> None:
        if untold := self._tallies.pop(uid).untold:
            fields = {"MESSAGE_ID": AUDIT, "KCONND_UID": uid, "KCONND_OUTCOME": "refused"}
            line = "uid %d asked %d times more within %g s for what came to nothing"
            log.info(line, uid, untold, self._minute, extra=fields)


def printable(name: str) -> str:
    """Give a name as it is where it is well-formed; anything else quoted and escaped."""
    return name if not name or is_name(name) else ascii(name[:100])


def is_name(text: object) -> bool:
    """Tell whether it is a kernel's name, or one of what is kept warm and has none yet."""
    if not isinstance(text, str):
        return False
    try:
        parse_name(without_warm_suffix(text))
    except UsageError:
        return False
    return True
