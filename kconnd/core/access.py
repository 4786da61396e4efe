"""Access control: decides from plain values whether a peer has a right on a kernel.

The table "Who may do what" of ``configs/README.md`` lists the rights. Each right includes the lower
ones: `Right.MANAGE`, for example, includes `Right.CONNECT`. The owner, root and members of
`ADMIN_GROUP` have all rights. Any other user has only the rights that the profile grants.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

ADMIN_GROUP = "kconnd-admin"  # members of this group manage every kernel of the machine


class Right(IntEnum):
    """A right on a kernel."""

    SEE = 1
    CONNECT = 2
    MANAGE = 3


@dataclass(frozen=True)
class Peer:
    """The process at the other end of a connection, as the operating system reports it (unix(7)).

    Parameters
    ----------
    uid, pid : int
        The user id and process id of the process when it connected.
    name : str
        The user's login name; ``""`` if the user has none.
    groups : frozenset of str
        The user's groups in the system's group database; empty if the database cannot be read.
    """

    uid: int
    pid: int
    name: str = ""
    groups: frozenset[str] = frozenset()


class AccessRules(Protocol):
    """The grants of a profile: login names, and groups as ``@NAME``, for each right."""

    @property
    def see(self) -> Sequence[str]:
        """Users who may see the kernel."""
        ...

    @property
    def connect(self) -> Sequence[str]:
        """Users who may run code in the kernel."""
        ...

    @property
    def manage(self) -> Sequence[str]:
        """Users who may start and stop the kernel."""
        ...


def may(peer: Peer, right: Right, *, owner: int, rules: AccessRules | None = None) -> bool:
    """Return whether a peer has a right on a kernel.

    Parameters
    ----------
    peer : Peer
        The requesting process.
    right : Right
        The right that the request needs.
    owner : int
        The uid that the kernel runs as.
    rules : AccessRules, optional
        The grants of the kernel's profile. Without a profile, only the owner and administrators
        have rights.
    """
    if right not in Right:
        return False
    if peer.uid in {owner, 0} or ADMIN_GROUP in peer.groups:
        return True
    if rules is None:
        return False
    granted = ((Right.SEE, rules.see), (Right.CONNECT, rules.connect), (Right.MANAGE, rules.manage))
    return any(_is_named(peer, names) for level, names in granted if level >= right)


def describe_managers(owner: str, rules: AccessRules | None) -> str:
    """Name the users who may manage a kernel, except administrators: ``ada or the group ops``."""
    named = (
        f"the group {name[1:]}" if name.startswith("@") else name
        for name in (rules.manage if rules else ())
    )
    *others, last = dict.fromkeys((owner, *named))
    return f"{', '.join(others)} or {last}" if others else last


def _is_named(peer: Peer, names: Sequence[str]) -> bool:
    return any(
        name[1:] in peer.groups if name.startswith("@") else bool(peer.name) and name == peer.name
        for name in names
    )
