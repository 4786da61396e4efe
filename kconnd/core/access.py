"""Who may do what with a kernel: one function of plain values, asked on every request.

The rights and what each covers are in the table "Who may do what" of ``configs/README.md``. A right
includes those before it. What nobody granted is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

ADMIN_GROUP = "kconnd-admin"  # the group whose members manage every kernel of the machine


class Right(IntEnum):
    """What a request needs."""

    SEE = 1
    CONNECT = 2
    MANAGE = 3


@dataclass(frozen=True)
class Peer:
    """Who is on the other end of a connection, as the operating system says (unix(7)).

    Parameters
    ----------
    uid, pid : int
        At the time of connecting.
    name : str
        The user's, or ``""`` where it has none.
    groups : frozenset of str
        All that the user is in by the system's database; none where that cannot be read.
    """

    uid: int
    pid: int
    name: str = ""
    groups: frozenset[str] = frozenset()


class AccessRules(Protocol):
    """What a profile says: login names, and groups as ``@NAME``, for each right."""

    @property
    def see(self) -> Sequence[str]:
        """Who may look at it."""
        ...

    @property
    def connect(self) -> Sequence[str]:
        """Who may run code in it."""
        ...

    @property
    def manage(self) -> Sequence[str]:
        """Who may start and end it."""
        ...


def may(peer: Peer, right: Right, *, owner: int, rules: AccessRules | None = None) -> bool:
    """Tell whether a peer has a right on a kernel.

    Parameters
    ----------
    peer : Peer
        Who asks.
    right : Right
        What for.
    owner : int
        The uid that the kernel runs as.
    rules : Rules, optional
        What its profile says; without one nobody else has any right.
    """
    if right not in Right:
        return False
    if peer.uid in {owner, 0} or ADMIN_GROUP in peer.groups:
        return True
    if rules is None:
        return False
    granted = ((Right.SEE, rules.see), (Right.CONNECT, rules.connect), (Right.MANAGE, rules.manage))
    return any(_is_named(peer, names) for level, names in granted if level >= right)


def _is_named(peer: Peer, names: Sequence[str]) -> bool:
    return any(
        name[1:] in peer.groups if name.startswith("@") else bool(peer.name) and name == peer.name
        for name in names
    )
