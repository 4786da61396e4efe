"""What a reload of the profiles means. Pure: two sets of profiles in, names out.

Rule: nothing here ends or starts a process. A live kernel keeps the profile that it was
launched from until somebody restarts it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kconnd.core.access import AccessRules

CURRENT = "current"
CHANGED = "changed: restart to apply"
ORPHANED = "orphaned"


@dataclass(frozen=True)
class Difference:
    """How two sets of profiles differ, by name."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]


def compare_profiles(old: Mapping[str, Any], new: Mapping[str, Any]) -> Difference:
    """Compare two sets of profiles."""
    both = old.keys() & new.keys()
    return Difference(
        added=tuple(sorted(new.keys() - old.keys())),
        changed=tuple(sorted(name for name in both if old[name] != new[name])),
        removed=tuple(sorted(old.keys() - new.keys())),
        unchanged=tuple(sorted(name for name in both if old[name] == new[name])),
    )


def revoked_names(before: AccessRules | None, after: AccessRules | None) -> tuple[str, ...]:
    """Name who could connect and no longer may; a key that they copied goes on working."""
    gone = _connecting(before) - _connecting(after)
    return tuple(sorted(gone))


def _connecting(rules: AccessRules | None) -> set[str]:
    return {*rules.connect, *rules.manage} if rules is not None else set()


def profile_status(launched: object | None, current: object | None) -> str:
    """Say how a live kernel's profile stands to the one that is there now.

    Parameters
    ----------
    launched : object, optional
        The profile that the process follows; None where there is no process.
    current : object, optional
        The profile of that name now; None where there is none.
    """
    if current is None:
        return ORPHANED
    return CURRENT if launched is None or launched == current else CHANGED
