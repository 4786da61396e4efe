"""The port ledger: a file that records which ports are granted to which kernel.

The file outlives the daemon. It contains one JSON object that maps kernel names to ports. While a
process changes the file, it holds a lock on a second file; two processes therefore never grant the
same port. Before a port is granted, it is bound once, to check that no other program uses the port.
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

from kconnd.core.launch.ports import PORTS_PER_KERNEL, choose_ports, in_order
from kconnd.errors import PortsTakenError
from kconnd.system.files.private import write_private
from kconnd.system.files.regular import MAX_OWN_BYTES, read_regular

Grants = dict[str, list[int]]


class PortLedger:
    """The port grants of one user on this machine.

    Parameters
    ----------
    folder : Path
        A private folder of the user that outlives the daemon but not a reboot.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "ports.json"
        self._lock = folder / "ports.lock"

    def grant(self, name: str, ip: str, first: int, last: int) -> tuple[int, ...]:
        """Grant five ports in a range to a kernel, and release its previous ports.

        Raises
        ------
        PortsTakenError
            If fewer than five ports are free.
        """
        return self.grant_missing(name, ip, first, last, (0,) * PORTS_PER_KERNEL)

    def grant_missing(
        self,
        name: str,
        ip: str,
        first: int,
        last: int,
        ports: tuple[int, ...],
        write: Callable[[tuple[int, ...]], None] = lambda _: None,
    ) -> tuple[int, ...]:
        """Grant five ports: a free port for each 0 in ``ports``, and each other port unchecked.

        Parameters
        ----------
        name : str
            The kernel's name, or the path of a connection file. A grant to a file ends when the
            file is removed.
        ip : str
            The address to bind.
        first, last : int
            The range to choose from.
        ports : tuple of int
            Five numbers. Each number is a port, or 0 to request a free port.
        write : callable
            A function that writes the connection file. It is called with the granted ports while
            the ledger is locked.

        Raises
        ------
        PortsTakenError
            If there are too few free ports.
        """
        with self._locked_grants() as grants:
            taken_ports = _ports_of_others(grants, name)
            start = first + secrets.randbelow(last - first + 1)
            chosen = choose_ports(
                in_order(first, last, start),
                taken_ports | set(ports),
                lambda port: is_free(ip, port),
                ports.count(0),
            )
            unused = iter(chosen)
            granted = tuple(port or next(unused) for port in ports)
            write(granted)
            grants[name] = list(granted)
            return granted

    def keep(self, name: str, ports: tuple[int, ...]) -> bool:
        """Record ports that a kernel already uses: fixed ports, or ports of an adopted kernel.

        Returns
        -------
        bool
            False if a port is granted to another kernel; nothing is recorded in this case.
        """
        with self._locked_grants() as grants:
            if not _ports_of_others(grants, name).isdisjoint(ports):
                return False
            grants[name] = list(ports)
            return True

    def release(self, name: str) -> None:
        """Release a kernel's ports."""
        with self._locked_grants() as grants:
            grants.pop(name, None)

    def granted(self) -> Grants:
        """Read all grants."""
        with self._locked_grants() as grants:
            return dict(grants)

    @contextlib.contextmanager
    def _locked_grants(self) -> Iterator[Grants]:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.open(self._lock, flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = json.dumps(self._read())
            grants = {name: ports for name, ports in json.loads(before).items() if _is_valid(name)}
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
            # The file may have been removed with the runtime folder. In this case, the check by
            # binding still prevents a conflict.
            return {}
        return grants


def _ports_of_others(grants: Grants, name: str) -> set[int]:
    return {port for owner, ports in grants.items() if owner != name for port in ports}


def _is_valid(name: str) -> bool:
    """Check whether a grant is valid; a grant to a file is valid while the file exists."""
    return not name.startswith("/") or Path(name).exists()


def fixed_ports_taken(ip: str, ports: tuple[int, ...]) -> PortsTakenError:
    """Create the error of a start whose fixed ports are not free."""
    busy_ports = [port for port in ports if not is_free(ip, port)]
    numbers = ", ".join(map(str, busy_ports or ports))
    return PortsTakenError(
        f"another program uses {numbers} of its fixed ports",
        hint="'ss -ltnp' shows which one; end it, or change 'ports' in the profile",
    )


def is_own_address(ip: str) -> bool:
    """Check whether a program on this machine can listen on an address."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((ip, 0))
    except OSError as error:
        return error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
    return True


def is_free(ip: str, port: int) -> bool:
    """Check whether ZMQ, which sets SO_REUSEADDR (socket(7)), could bind a port now."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, port))
        except OSError as error:
            # The address of another machine cannot be bound here, so its ports count as free.
            return error.errno == errno.EADDRNOTAVAIL
        return True
