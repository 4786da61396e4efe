"""Compares the profiles before a reload with the profiles after it; all functions are pure.

Rule: a reload neither stops nor starts a process. A live kernel keeps the profile that it was
launched from until a user restarts it.
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
    """The names of the profiles that a reload added, changed, removed or left unchanged."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]


def compare_profiles(old: Mapping[str, Any], new: Mapping[str, Any]) -> Difference:
    """Compare two sets of profiles."""
    common = old.keys() & new.keys()
    return Difference(
        added=tuple(sorted(new.keys() - old.keys())),
        changed=tuple(sorted(name for name in common if old[name] != new[name])),
        removed=tuple(sorted(old.keys() - new.keys())),
        unchanged=tuple(sorted(name for name in common if old[name] == new[name])),
    )


def revoked_names(before: AccessRules | None, after: AccessRules | None) -> tuple[str, ...]:
    """Return the users and groups that have lost the right to connect.

    A user who has copied the kernel's key can still connect.
    """
    return tuple(sorted(_may_connect(before) - _may_connect(after)))


def _may_connect(rules: AccessRules | None) -> set[str]:
    return {*rules.connect, *rules.manage} if rules is not None else set()


def profile_status(launched: object | None, current: object | None) -> str:
    """Return the status of a kernel's profile: current, changed or orphaned.

    Parameters
    ----------
    launched : object, optional
        The profile that the process was launched from; None if there is no process.
    current : object, optional
        The present profile of the kernel; None if the profile was removed.
    """
    if current is None:
        return ORPHANED
    return CURRENT if launched is None or launched == current else CHANGED
