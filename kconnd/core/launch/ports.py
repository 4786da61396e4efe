"""Which ports a kernel gets. Pure: what is granted and what is free comes as arguments."""

from collections.abc import Callable, Iterable

from kconnd.errors import PortsTakenError

COUNT = 5
LOWEST, HIGHEST = 20000, 32767  # where the machine's ephemeral range leaves room


def default_range(ephemeral: tuple[int, int]) -> tuple[int, int]:
    """Choose the range to take ports from: below the one that outgoing connections use.

    Parameters
    ----------
    ephemeral : tuple of int
        First and last port of ``net.ipv4.ip_local_port_range`` (ip(7)).

    Returns
    -------
    tuple of int
        First and last port. Where there is no room below, the room above.
    """
    first, last = ephemeral
    top = min(HIGHEST, first - 1)
    if top - LOWEST >= 100 * COUNT:
        return LOWEST, top
    below, above = (1024, first - 1), (last + 1, 65535)
    return max(below, above, key=lambda room: room[1] - room[0])


def choose_ports(
    candidates: Iterable[int],
    granted: Iterable[int],
    is_free: Callable[[int], bool],
    count: int = COUNT,
) -> tuple[int, ...]:
    """Choose ports for one kernel.

    Parameters
    ----------
    candidates : iterable of int
        Ports in the order in which to try them.
    granted : iterable of int
        Ports that belong to other kernels, whether those run or not.
    is_free : callable
        Tells whether a port can be bound now.
    count : int
        How many.

    Raises
    ------
    PortsTakenError
        If fewer are free.
    """
    taken = set(granted)
    chosen: list[int] = []
    for port in candidates:
        if port not in taken and is_free(port):
            chosen.append(port)
            taken.add(port)
        if len(chosen) == count:
            return tuple(chosen)
    raise PortsTakenError(
        f"choosing ports: only {len(chosen)} of {count} are free in the range",
        hint="give the profile a wider range with 'ports:', or stop kernels that are not needed",
    )


def in_order(first: int, last: int, start: int) -> Iterable[int]:
    """Go once round a range from somewhere inside it, so that two users seldom meet."""
    size = last - first + 1
    return (first + (start + step) % size for step in range(size))
