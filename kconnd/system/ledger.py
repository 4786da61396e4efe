"""Which ports are granted to which kernel, in a file that outlives the daemon.

One JSON object of kernel name to ports, changed only under a lock on a file beside it, so
that two processes at once never grant the same port. A port is bound once at grant time, so
that one which a stranger uses is not granted.
"""

import contextlib
import errno
import fcntl
import json
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from kconnd.core.launch.ports import COUNT, choose_ports, in_order
from kconnd.system.files.private import write_private
from kconnd.system.files.regular import MAX_OWN_BYTES, read_regular

Grants = dict[str, list[int]]


class PortLedger:
    """The grants of one user on this machine.

    Parameters
    ----------
    folder : Path
        Private to the user; survives the daemon, not the machine.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "ports.json"
        self._lock = folder / "ports.lock"

    def grant(self, name: str, ip: str, first: int, last: int) -> tuple[int, ...]:
        """Grant five ports between two to a kernel, in the place of what it had.

        Raises
        ------
        PortsTakenError
            If there are not five free ones.
        """
        return self.fill(name, ip, first, last, (0,) * COUNT)

    def fill(
        self,
        name: str,
        ip: str,
        first: int,
        last: int,
        ports: tuple[int, ...],
        then: Callable[[tuple[int, ...]], None] = lambda _: None,
    ) -> tuple[int, ...]:
        """Grant a port in the place of each 0; the others are taken as they are.

        Parameters
        ----------
        name : str
            The kernel's name; or a connection file's path, whose grant ends with the file.
        ip : str
            The address to bind.
        first, last : int
            The range to choose from.
        ports : tuple of int
            Five.
        then : callable
            Called with the ports while nobody else can be granted any: writes the file.

        Raises
        ------
        PortsTakenError
            If there are too few free ones.
        """
        with self._opened() as grants:
            others = {port for other, known in grants.items() if other != name for port in known}
            start = first + secrets.randbelow(last - first + 1)
            chosen = choose_ports(
                in_order(first, last, start),
                others | set(ports),
                lambda port: is_free(ip, port),
                ports.count(0),
            )
            rest = iter(chosen)
            granted = tuple(port or next(rest) for port in ports)
            then(granted)
            grants[name] = list(granted)
            return granted

    def keep(self, name: str, ports: tuple[int, ...]) -> bool:
        """Note ports that a kernel has already: its own, fixed, or found at adoption.

        False, and nothing is noted, where one of them was granted to another meanwhile.
        """
        with self._opened() as grants:
            others = {port for other, known in grants.items() if other != name for port in known}
            if not others.isdisjoint(ports):
                return False
            grants[name] = list(ports)
            return True

    def release(self, name: str) -> None:
        """Take a kernel's ports back."""
        with self._opened() as grants:
            grants.pop(name, None)

    def granted(self) -> Grants:
        """Read all grants."""
        with self._opened() as grants:
            return dict(grants)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Grants]:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.open(self._lock, flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = json.dumps(self._read())
            grants = {name: ports for name, ports in json.loads(before).items() if _lasts(name)}
            yield grants
            after = json.dumps(grants)
            if after != before:
                write_private(self._file, after.encode())
        finally:
            os.close(lock)

    def _read(self) -> Grants:
        try:
            grants: Grants = json.loads(read_regular(self._file, MAX_OWN_BYTES))
        except (OSError, ValueError):
            return {}  # lost with the runtime folder; the bind at grant time still protects
        return grants


def _lasts(name: str) -> bool:
    """Tell whether a grant still has an owner: one for a file ends with the file."""
    return not name.startswith("/") or Path(name).exists()


def is_free(ip: str, port: int) -> bool:
    """Tell whether a port can be bound now, as ZMQ would: with SO_REUSEADDR (socket(7))."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, port))
        except OSError as error:
            # An address of another machine cannot be bound, and is free as far as we can tell.
            return error.errno == errno.EADDRNOTAVAIL
        return True
