"""Decides from the listening sockets of a kernel whether the kernel ignores its connection file.

A kernel that cannot use Unix sockets may exit, or may listen at other addresses without an error
message. JeroMQ emulates Unix sockets by tcp ports on loopback. The Lua kernel ``ilua`` binds
``PREFIX:1`` instead of ``PREFIX-1``, the path to which clients connect. A kernel that ignores its
CURVE keys listens without encryption.

Rule: while a kernel is starting, it may also listen on sockets that are no channels, such as those
of a debugger or of Spark. Tcp ports that are not in the connection file are therefore evidence only
if the kernel speaks ZMTP on four or more of these ports: a client needs four channels.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from kconnd.core.kernel.reachability import REQUIRED_CHANNELS, Listener
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.wire import TrialFailure

MIN_SOCKETS = len(REQUIRED_CHANNELS)  # fewer sockets cannot serve all channels
MAX_PORTS = 32  # the maximum of ports to which a greeting is sent
NO_SECURITY = "NULL"  # the mechanism of an unencrypted ZMTP peer
NOT_ENCRYPTED = "it does not encrypt its channels"
SHELL = 0  # the index of the shell channel in `ConnectionInfo.ports`

Greet = Callable[[int], str]


@dataclass(frozen=True)
class ListeningSockets:
    """The sockets on which the processes of a kernel listen.

    Parameters
    ----------
    tcp : collection of Listener
        The listening TCP sockets.
    unix : collection of str
        The paths of the listening Unix sockets.
    """

    tcp: Collection[Listener] = ()
    unix: Collection[str] = ()


@dataclass(frozen=True)
class RefusedWire:
    """How a kernel ignores its connection file, and the evidence, as shown to users."""

    failure: TrialFailure
    evidence: str


def find_refusal(
    connection: ConnectionInfo, sockets: ListeningSockets, greet: Greet
) -> RefusedWire | None:
    """Return how a starting kernel ignores its connection file; None if there is no sign of this.

    Parameters
    ----------
    connection : ConnectionInfo
        The content of the connection file.
    sockets : ListeningSockets
        The sockets on which the kernel's processes listen.
    greet : callable
        A function that returns the ZMTP security mechanism of the process that listens on a TCP
        port; ``""`` if this process does not speak ZMTP.
    """
    if connection.transport == "ipc":
        return _find_other_sockets(connection, sockets, greet)
    port = connection.ports[SHELL]
    listens = any(listener.port == port for listener in sockets.tcp)
    if connection.curve is None or not listens or greet(port) != NO_SECURITY:
        return None
    return RefusedWire(TrialFailure.PLAIN, NOT_ENCRYPTED)


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
