"""Chooses the ports of a kernel among those that are free and not granted to another kernel."""

from collections.abc import Callable, Iterable

from kconnd.errors import PortsTakenError

PORTS_PER_KERNEL = 5
MIN_PORT, MAX_PORT = 20000, 32767  # the default range; its part below the ephemeral range is used


def default_range(ephemeral: tuple[int, int]) -> tuple[int, int]:
    """Choose the range of kernels' ports, outside the ephemeral range of outgoing connections.

    Parameters
    ----------
    ephemeral : tuple of int
        First and last port of ``net.ipv4.ip_local_port_range`` (ip(7)).

    Returns
    -------
    tuple of int
        First and last port. The range is normally the part of the default range that is below the
        ephemeral range. If this part is too small, the result is the larger of two other ranges:
        from 1024 up to the ephemeral range, or from the ephemeral range up to 65535.
    """
    first, last = ephemeral
    top = min(MAX_PORT, first - 1)
    if top - MIN_PORT >= 100 * PORTS_PER_KERNEL:
        return MIN_PORT, top
    below, above = (1024, first - 1), (last + 1, 65535)
    return max(below, above, key=lambda room: room[1] - room[0])


def choose_ports(
    candidates: Iterable[int],
    granted: Iterable[int],
    is_free: Callable[[int], bool],
    count: int = PORTS_PER_KERNEL,
) -> tuple[int, ...]:
    """Choose ports for one kernel.

    Parameters
    ----------
    candidates : iterable of int
        Ports, in the order of preference.
    granted : iterable of int
        The ports of other kernels, running or not.
    is_free : callable
        A function that returns whether a port can be bound.
    count : int
        The number of ports.

    Raises
    ------
    PortsTakenError
        If fewer than ``count`` ports are free.
    """
    unavailable = set(granted)
    chosen: list[int] = []
    for port in candidates:
        if port not in unavailable and is_free(port):
            chosen.append(port)
            unavailable.add(port)
        if len(chosen) == count:
            return tuple(chosen)
    raise PortsTakenError(
        f"choosing ports: only {len(chosen)} of {count} are free in the range",
        hint="give the profile a wider range with 'ports:', or stop kernels that are not needed",
    )


def in_order(first: int, last: int, start: int) -> Iterable[int]:
    """Yield all ports of a range, from the offset ``start`` to the end, then from the beginning.

    If concurrent callers use different offsets, they rarely try the same port.
    """
    size = last - first + 1
    return (first + (start + step) % size for step in range(size))
