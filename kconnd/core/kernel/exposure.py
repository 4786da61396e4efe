"""Compares the sockets on which a kernel listens with its connection file.

Some kernels listen where nobody told them to: Kotlin on every address of the machine, whatever
``ip`` says, and its JVM on the port of a debugger. Such a socket is a way to the kernel that no
file permission and no key protects, so the user is warned.

Rule: a ZMQ socket on loopback causes no warning. Each ipykernel has such a socket for the output of
its child processes. On this socket, ipykernel accepts only messages that contain a random id.
"""

import ipaddress
from collections.abc import Callable, Iterable

from kconnd.core.kernel.reachability import Listener
from kconnd.core.launch.connection import ConnectionInfo

MAX_NAMED_PORTS = 5


def describe_exposure(
    connection: ConnectionInfo, listeners: Iterable[Listener], greet: Callable[[int], str]
) -> tuple[str, ...]:
    """Return warnings about TCP sockets that listen elsewhere than the connection file says.

    Parameters
    ----------
    connection : ConnectionInfo
        The content of the kernel's connection file.
    listeners : iterable of Listener
        The TCP sockets on which the kernel's processes listen.
    greet : callable
        Takes a TCP port, and returns the ZMTP mechanism of its listener; ``""`` if the listener
        does not speak ZMTP.
    """
    listeners = list(listeners)
    is_tcp = connection.transport == "tcp"
    ports = frozenset(connection.ports) if is_tcp else frozenset[int]()
    may_be_everywhere = is_tcp and ipaddress.ip_address(connection.ip).is_unspecified
    everywhere = {item.port for item in listeners if item.on_every_address}
    exposed = frozenset() if may_be_everywhere else everywhere
    other = {item.port for item in listeners} - ports
    other = {port for port in other if port in everywhere or not greet(port)}
    warnings = []
    if exposed & ports:
        warnings.append(
            f"it listens on every address of this machine, not only on {connection.ip}: "
            f"{_name(exposed & ports)}"
        )
    if other:
        reach = " on every address of this machine" if other & everywhere else ""
        warnings.append(f"it also listens{reach} on {_name(other)}, not in its connection file")
    return tuple(warnings)


def _name(ports: Iterable[int]) -> str:
    numbers = sorted(ports)
    named = ", ".join(map(str, numbers[:MAX_NAMED_PORTS]))
    more = f" and {len(numbers) - MAX_NAMED_PORTS} more" if len(numbers) > MAX_NAMED_PORTS else ""
    return f"{'port' if len(numbers) == 1 else 'ports'} {named}{more}"
