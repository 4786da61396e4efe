"""Who may do what with a kernel: one function of plain values, asked on every request.

The rights and what each covers are in the table of README's "Who may do what". A right
includes those before it.
"""

from dataclasses import dataclass
from enum import IntEnum


class Right(IntEnum):
    """What a request needs."""

    SEE = 1
    CONNECT = 2
    MANAGE = 3


@dataclass(frozen=True)
class Peer:
    """Who is on the other end of a connection, as the operating system says (unix(7))."""

    uid: int
    pid: int


def may(peer: Peer, right: Right, *, owner: int) -> bool:
    """Tell whether a peer has a right on a kernel of this owner.

    Parameters
    ----------
    peer : Peer
        Who asks.
    right : Right
        What for.
    owner : int
        The uid that the kernel runs as.
    """
    return right in Right and peer.uid in {owner, 0}
