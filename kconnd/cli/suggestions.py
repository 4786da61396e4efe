"""Suggestions for a misspelled verb or option, and for verbs of docker and systemctl.

Rule: if the user may have meant a look-up (a verb that changes nothing), no verb that changes
something is suggested. If any look-up is similar to the word, only look-ups are suggested. The
verbs of docker and systemctl are compared with the word, too.
"""

from __future__ import annotations

from kconnd.cli.grammar import VERBS
from kconnd.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kconnd.cli.grammar import Option

MIN_PREFIX_CHARS = 3  # the minimal length of a shortened verb, such as "conn"
LETTERS_PER_EDIT = 3  # a word is similar with one edit per this many letters


class ForeignVerb:
    """A verb of docker or systemctl that ``kconnd-ctl`` does not have.

    Parameters
    ----------
    equivalent : str
        The sentence that names the verbs to use instead.
    changes : bool
        Whether the verb changes something. If not, the verbs in `equivalent` change nothing,
        either.
    """

    def __init__(self, equivalent: str, *, changes: bool) -> None:
        self.equivalent, self.changes = equivalent, changes


FOREIGN_VERBS = {
    "ps": ForeignVerb("kconnd-ctl list shows all kernels", changes=False),
    "ls": ForeignVerb("kconnd-ctl list shows all kernels", changes=False),
    "status": ForeignVerb(
        "kconnd-ctl info NAME shows the state of a kernel, kconnd-ctl list that of all",
        changes=False,
    ),
    "inspect": ForeignVerb(
        "kconnd-ctl info NAME --json prints everything about a kernel", changes=False
    ),
    "top": ForeignVerb("kconnd-ctl list shows the memory of all kernels", changes=False),
    "kill": ForeignVerb(
        "kconnd-ctl stop NAME --now stops a kernel at once; kconnd-ctl signal NAME -s SIG sends "
        "it a signal",
        changes=True,
    ),
    "attach": ForeignVerb("kconnd-ctl console NAME opens a console on a kernel", changes=True),
    "exec": ForeignVerb("kconnd-ctl run NAME -c CODE runs code on a kernel", changes=True),
    "rm": ForeignVerb(
        "kconnd-ctl stop NAME stops a kernel; to remove it, delete its profile and run kconnd-ctl "
        "reload",
        changes=True,
    ),
    "edit": ForeignVerb(
        "kconnd-ctl profiles shows the file of each profile; edit it, then run kconnd-ctl reload",
        changes=True,
    ),
}


def unknown_verb(word: str) -> UsageError:
    """Create the error for a word that is not a verb."""
    return UsageError(f"{word!r} is not a verb of kconnd-ctl", hint=suggest_verb(word))


def suggest_verb(word: str) -> str:
    """Return a sentence that names the verb to use instead of an unknown word."""
    if word in FOREIGN_VERBS:
        return FOREIGN_VERBS[word].equivalent
    looking = {name for name, verb in VERBS.items() if not verb.changes}
    looking |= {name for name, verb in FOREIGN_VERBS.items() if not verb.changes}
    nearest = _nearest(word, looking) or _nearest(word, {*FOREIGN_VERBS, *VERBS} - looking)
    if nearest is None:
        return "kconnd-ctl help lists the verbs"
    if nearest in FOREIGN_VERBS:
        return FOREIGN_VERBS[nearest].equivalent
    return f"did you mean {nearest!r}? kconnd-ctl help lists the verbs"


def suggest_option(spelling: str, options: Sequence[Option]) -> str:
    """Return a sentence that lists a verb's options and suggests one for a misspelled option."""
    labels = [f"{'/'.join(option.spellings)} {option.metavar}".rstrip() for option in options]
    allowed = f"allowed: {', '.join(labels)}"
    spellings = {name for option in options for name in option.spellings if name[:2] == "--"}
    nearest = _nearest(spelling, spellings)
    return f"did you mean {nearest}? {allowed}" if nearest else allowed


def _nearest(word: str, candidates: Iterable[str]) -> str | None:
    """Find the candidate closest to a word; None if no candidate is close."""
    distances = {
        (_distance(word, candidate), candidate)
        for candidate in candidates
        if _is_near(word, candidate)
    }
    return min(distances)[1] if distances else None


def _is_near(word: str, candidate: str) -> bool:
    letters = len(candidate.lstrip("-"))
    if len(word) >= MIN_PREFIX_CHARS and candidate.startswith(word):
        return True
    return _distance(word, candidate) <= max(1, letters // LETTERS_PER_EDIT)


def _distance(left: str, right: str) -> int:
    """Count the edits between two words: insertion, deletion, replacement, swap of neighbours.

    This is the optimal string alignment distance. Each row contains the distances between a prefix
    of ``left`` and every prefix of ``right``.
    """
    before_last: list[int] = []
    last = list(range(len(right) + 1))
    for i, letter in enumerate(left):
        row = [i + 1]
        for j, other in enumerate(right):
            edits = min(last[j] + (letter != other), last[j + 1] + 1, row[j] + 1)
            if i and j and letter == right[j - 1] and left[i - 1] == other:
                edits = min(edits, before_last[j - 1] + 1)
            row.append(edits)
        before_last, last = last, row
    return last[-1]
