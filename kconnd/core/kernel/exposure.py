"""Compares a kernel with its connection file: the sockets, and what its launch made of the file.

Some kernels listen where nobody told them to: Kotlin on every address of the machine, whatever
``ip`` says, and its JVM on the port of a debugger. Such a socket is a way to the kernel that no
file permission and no key protects, so the user is warned.

A launch script may write the file again, with other ports or another address. Clients then attach
to addresses that kconnd does not know, so the user is warned of this too.

Rule: a ZMQ socket on loopback causes no warning. Each ipykernel has such a socket for the output of
its child processes. On this socket, ipykernel accepts only messages that contain a random id.
"""

import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping

from kconnd.core.kernel.reachability import Listener
from kconnd.core.launch.connection import ConnectionInfo

MAX_NAMED_PORTS = 5
MAX_SHOWN_CHARACTERS = 100  # of a key or a value in a file that a launch script has written
REWRITTEN = "its launch has rewritten its connection file"
_SHOWN = re.compile("transport|ip|signature_scheme|kernel_name|[a-z]+_port")  # the rest is secret


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
    reader = "" if connection.curve else "; everybody who can reach the machine can read its output"
    if exposed & ports:
        warnings.append(
            f"it listens on every address of this machine, not only on {connection.ip}: "
            f"{_name(exposed & ports)}{reader}"
        )
    if other:
        reach = " on every address of this machine" if other & everywhere else ""
        warnings.append(f"it also listens{reach} on {_name(other)}, not in its connection file")
    return tuple(warnings)


def describe_rewriting(written: Mapping[str, object], present: bytes) -> str:
    """Return a warning about a connection file that a launch has written again.

    The result is ``""`` if the content has the same meaning. Only addresses are shown.

    Parameters
    ----------
    written : mapping
        The content that kconnd wrote.
    present : bytes
        The content of the file.
    """
    try:
        content = json.loads(present)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        changes = "it is no JSON object any more"
    else:
        keys = [key for key in (*written, *content) if written.get(key) != content.get(key)]
        changes = ", ".join(_change(key, written, content) for key in dict.fromkeys(keys))
    if not changes:
        return ""
    return (
        f"{REWRITTEN} ({changes}); kconnd and its clients keep to what kconnd wrote: remove this "
        "step from the launch script"
    )


def _change(key: str, before: Mapping[str, object], after: Mapping[str, object]) -> str:
    if not _SHOWN.fullmatch(key):
        return f"another {key[:MAX_SHOWN_CHARACTERS]}"
    value = str(after.get(key, "not set"))[:MAX_SHOWN_CHARACTERS]
    return f"{key} {before.get(key, 'not set')} → {value}"


def _name(ports: Iterable[int]) -> str:
    numbers = sorted(ports)
    named = ", ".join(map(str, numbers[:MAX_NAMED_PORTS]))
    more = f" and {len(numbers) - MAX_NAMED_PORTS} more" if len(numbers) > MAX_NAMED_PORTS else ""
    return f"{'port' if len(numbers) == 1 else 'ports'} {named}{more}"
