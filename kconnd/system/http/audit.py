"""The audit log of the requests that change something or disclose a key.

A line says who sent which request, and the outcome.

Rules. A request that changed something, may have changed something, or disclosed a key has its own
line. In each minute, a user's first few requests without an effect have their own lines, and a
summary line counts the others. A user can therefore not flood the log. Each line is printable,
whatever the request contains.
"""

import asyncio
import logging
from dataclasses import dataclass

from kconnd.core.access import Peer
from kconnd.core.launch.kernel_files import without_warm_suffix
from kconnd.core.names import parse_name
from kconnd.errors import UsageError
from kconnd.system.systemd.journal import AUDIT

MAX_LINES = 5  # lines about requests without an effect, per user and interval
SUMMARY_INTERVAL_S = 60.0
MAX_SHOWN_CHARACTERS = 100  # an invalid name is truncated to this length
HUNG_UP = "hung up"  # the outcome if the client disconnects before its request is handled
WITHOUT_EFFECT = frozenset(
    {HUNG_UP, "refused", "usage", "no-such-kernel", "elsewhere", "bad-profile", "not-running"}
)

log = logging.getLogger("kconnd")


@dataclass
class _Tally:
    """How many requests without an effect one user has sent in the current interval."""

    logged: int = 0
    omitted: int = 0


class Audit:
    """Writes the audit log.

    Parameters
    ----------
    interval_s : float
        The seconds between summary lines.
    """

    def __init__(self, interval_s: float = SUMMARY_INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._tallies: dict[int, _Tally] = {}

    def note(self, peer: Peer, verb: str, name: str, outcome: str) -> None:
        """Log a request, or count it for the summary."""
        if outcome in WITHOUT_EFFECT and not self._may_log(peer.uid):
            return
        fields = {
            "MESSAGE_ID": AUDIT,
            "KCONND_UID": peer.uid,
            "KCONND_PID": peer.pid,
            "KCONND_VERB": verb,
            "KCONND_KERNEL": (shown := printable(name)),
            "KCONND_OUTCOME": outcome,
        }
        row = (peer.uid, peer.pid, verb, shown, outcome)
        log.info("uid %d, pid %d requested %s %s: %s", *row, extra=fields)

    def _may_log(self, uid: int) -> bool:
        tally = self._tallies.get(uid)
        if tally is None:
            tally = self._tallies[uid] = _Tally()
            asyncio.get_running_loop().call_later(self._interval_s, self._log_summary, uid)
        if tally.logged < MAX_LINES:
            tally.logged += 1
            return True
        tally.omitted += 1
        return False

    def _log_summary(self, uid: int) -> None:
        if omitted := self._tallies.pop(uid).omitted:
            fields = {"MESSAGE_ID": AUDIT, "KCONND_UID": uid, "KCONND_OUTCOME": "refused"}
            line = "uid %d sent %d more requests without an effect within %g s"
            log.info(line, uid, omitted, self._interval_s, extra=fields)


def printable(name: str) -> str:
    """Return a valid name unchanged; quote and escape any other text."""
    return name if not name or is_name(name) else ascii(name[:MAX_SHOWN_CHARACTERS])


def is_name(text: object) -> bool:
    """Check whether a text is a kernel's name, or the temporary name of a warm kernel."""
    if not isinstance(text, str):
        return False
    try:
        parse_name(without_warm_suffix(text))
    except UsageError:
        return False
    return True
