"""Looks whether a new client can attach to a kernel: at its connection file and its sockets.

Unix sockets are connected to once; after that it is enough that they are the same files, since a
live kernel keeps them open. Ports are looked for among those that somebody listens on, which the
kernel does not notice.
"""

import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from kconnd.core.kernel.reachability import find_ipc_fault, find_tcp_fault, parse_listeners
from kconnd.core.launch.connection import CHANNELS, ConnectionInfo, parse_connection
from kconnd.system.files.regular import MAX_OWN_BYTES, read_regular
from kconnd.system.process.processes import ProcessId, descendants
from kconnd.system.process.resource_usage import sockets_of

Marks = tuple[tuple[int, int, int] | None, ...]


class Reach:
    """Looks at one process of a kernel again and again.

    Parameters
    ----------
    connection : ConnectionInfo
        Where it was told to listen.
    file : Path
        Its connection file.
    root : ProcessId
        The process above all of the kernel's.
    """

    def __init__(self, connection: ConnectionInfo, file: Path, root: ProcessId) -> None:
        self._connection, self._file, self._root = connection, file, root
        self._sound: Marks = ()

    def find_fault(self) -> str:
        """Say why a new client could not attach; empty where one can, or nobody can tell."""
        marks = _marks((str(self._file), *self._connection.socket_paths()))
        if marks == self._sound and self._connection.transport == "ipc":
            return ""
        fault = self._file_fault() or self._socket_fault()
        self._sound = () if fault else marks
        return fault

    def has_file(self) -> bool:
        """Tell whether the connection file says what clients need."""
        return not self._file_fault()

    def _file_fault(self) -> str:
        try:
            found = parse_connection(json.loads(read_regular(self._file, MAX_OWN_BYTES)))
        except (OSError, ValueError) as error:
            return f"its connection file cannot be read: {error}"
        ours = self._connection
        if found.key == ours.key and all(found.url(one) == ours.url(one) for one in CHANNELS):
            return ""
        return f"its connection file {self._file} says something else than it was told"

    def _socket_fault(self) -> str:
        if self._connection.transport == "ipc":
            return find_ipc_fault(self._connection, _listens)
        try:
            tables = [Path(f"/proc/self/net/{one}").read_text("ascii") for one in ("tcp", "tcp6")]
            own = {inode for one in self._processes() for inode in sockets_of(one.pid)}
            return find_tcp_fault(self._connection, parse_listeners(tables), own)
        except (OSError, ValueError, IndexError):
            return ""

    def _processes(self) -> list[ProcessId]:
        return [self._root, *descendants(self._root)]


def _marks(paths: Sequence[str]) -> Marks:
    """Give what tells whether files are the same as before; None for one that is not there."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            about = os.stat(path, follow_symlinks=False)  # noqa: PTH116  # half the time of Path's
            found.append((about.st_dev, about.st_ino, about.st_mtime_ns))
        except OSError:
            found.append(None)
    return tuple(found)


def _listens(path: str) -> bool:
    """Tell whether a Unix socket can be connected to; one with a full queue can, later."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True
