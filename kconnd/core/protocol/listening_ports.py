"""Finds the users who listen on a TCP port, from ``/proc/net/tcp`` and ``/proc/net/tcp6``.

All functions are pure: they map the tables to uids. A row contains the local address in
hexadecimal, and each 32 bits of the address are in the byte order of the machine. The eighth column
is the uid of the socket's owner (proc_pid_net(5)). The system delivers a connection to the socket
that is bound to the exact address, or else to a socket that is bound to the wildcard address. An
IPv4 connection can also reach an IPv6 socket, by a mapped address (ipv6(7)).
"""

import ipaddress
import sys
from collections.abc import Iterable, Iterator

LISTENING = "0A"
_MAPPED = b"\0" * 10 + b"\xff\xff"  # the prefix of an IPv4-mapped IPv6 address


def listener_uids(tables: Iterable[str], ip: str, port: int) -> frozenset[int]:
    """Return the uids of the sockets that accept connections to an address and port.

    Parameters
    ----------
    tables : iterable of str
        The content of ``/proc/net/tcp`` and ``/proc/net/tcp6``.
    ip : str
        A numeric address.
    port : int
        The port.
    """
    rows = [row for table in tables for row in _listening(table, port)]
    exact = _table_forms(ip)
    wildcards = {"0" * len(form) for form in exact}
    closest = [uid for address, uid in rows if address in exact]
    return frozenset(closest or [uid for address, uid in rows if address in wildcards])


def _listening(table: str, port: int) -> Iterator[tuple[str, int]]:
    """Yield the local address and the uid of each socket that listens on a port."""
    for row in (line.split() for line in table.splitlines()[1:]):
        address, _, number = row[1].partition(":")
        if row[3] == LISTENING and int(number, 16) == port:
            yield address, int(row[7])


def _table_forms(ip: str) -> frozenset[str]:
    """Return the forms of an address in the tables; an IPv4 address also has its mapped form."""
    packed = ipaddress.ip_address(ip).packed
    forms = [packed] if len(packed) == 16 else [packed, _MAPPED + packed]  # noqa: PLR2004  # IPv6
    return frozenset("".join(map(_as_hex, _words(form))) for form in forms)


def _words(packed: bytes) -> Iterator[bytes]:
    return (packed[start : start + 4] for start in range(0, len(packed), 4))


def _as_hex(word: bytes) -> str:
    return f"{int.from_bytes(word, sys.byteorder):08X}"
