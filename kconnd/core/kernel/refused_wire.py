"""Decides from a kernel's listening sockets whether it ignores its connection file.

A kernel that cannot use Unix sockets may exit, or listen at other addresses without a word. JeroMQ
emulates Unix sockets by tcp ports on loopback. ilua binds the paths with a colon in the place of
the hyphen, which no client looks for. A kernel that ignores its CURVE keys listens in the clear.

Rule: a process may listen on sockets of its own, such as those of a debugger or of Spark, while it
is still starting. Other tcp ports are evidence only if the peer speaks ZMTP on enough of them for
all channels.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from kconnd.core.kernel.reachability import REQUIRED_CHANNELS, Listener
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.wire import TrialFailure

MIN_SOCKETS = len(REQUIRED_CHANNELS)  # fewer sockets cannot serve all channels
MAX_PORTS = 32  # that are asked whether they speak ZMTP
NO_SECURITY = "NULL"  # the mechanism of an unencrypted ZMTP peer
SHELL = 0  # its index in the ports of a connection

Greet = Callable[[int], str]


@dataclass(frozen=True)
class ListeningSockets:
    """The sockets on which the processes of a kernel listen.

    Parameters
    ----------
    tcp : collection of Listener
        Listening TCP sockets.
    unix : collection of str
        The paths of listening Unix sockets.
    """

    tcp: Collection[Listener] = ()
    unix: Collection[str] = ()


@dataclass(frozen=True)
class RefusedWire:
    """A kernel's refusal of its wire, and the observation behind it, as shown to users."""

    failure: TrialFailure
    evidence: str


def find_refusal(
    connection: ConnectionInfo, sockets: ListeningSockets, greet: Greet
) -> RefusedWire | None:
    """Return how a starting kernel ignores its connection file; None if it does not.

    Parameters
    ----------
    connection : ConnectionInfo
        The connection file.
    sockets : ListeningSockets
        The sockets on which the kernel's processes listen.
    greet : callable
        Takes a TCP port, and returns the ZMTP mechanism of its listener; ``""`` if the listener
        does not speak ZMTP.
    """
    if connection.transport == "ipc":
        return _find_other_sockets(connection, sockets, greet)
    port = connection.ports[SHELL]
    listens = any(listener.port == port for listener in sockets.tcp)
    if connection.curve is None or not listens or greet(port) != NO_SECURITY:
        return None
    return RefusedWire(TrialFailure.PLAIN, "it does not encrypt its channels")


def _find_other_sockets(
    connection: ConnectionInfo, sockets: ListeningSockets, greet: Greet
) -> RefusedWire | None:
    if set(connection.socket_paths()) & set(sockets.unix):
        return None
    strays = [path for path in connection.stray_paths() if path in sockets.unix]
    if len(strays) >= MIN_SOCKETS:
        evidence = f"it has bound {strays[0]} and similar paths, which no client looks for"
        return RefusedWire(TrialFailure.ELSEWHERE, evidence)
    ports = sorted({listener.port for listener in sockets.tcp})[:MAX_PORTS]
    if len(ports) < MIN_SOCKETS:
        return None
    channels = [str(port) for port in ports if greet(port)]
    if len(channels) < MIN_SOCKETS:
        return None
    evidence = f"it listens on the tcp ports {', '.join(channels)} and on no Unix socket"
    return RefusedWire(TrialFailure.ELSEWHERE, evidence)
