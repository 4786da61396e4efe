"""Check by a kernel's connection file and sockets whether a new client can attach.

The first check connects to the Unix sockets. Later checks do not connect: a live kernel keeps its
sockets open, so it suffices that the socket files still have the same inodes. TCP ports are looked
up in the system's tables of listening sockets, without a connection to the kernel.
"""

import json
import os
import socket
from pathlib import Path

from kconnd.core.kernel.reachability import find_ipc_fault, find_tcp_fault, parse_listeners
from kconnd.core.launch.connection import CHANNELS, ConnectionInfo, parse_connection
from kconnd.system.files.regular import MAX_OWN_BYTES, read_regular
from kconnd.system.process.processes import ProcessId, descendants
from kconnd.system.process.resource_usage import sockets_of

FileId = tuple[int, int, int] | None


class AttachCheck:
    """Checks repeatedly, for one launch of a kernel, whether a new client can attach.

    Parameters
    ----------
    connection : ConnectionInfo
        The addresses that the kernel was launched with.
    file : Path
        The kernel's connection file.
    root : ProcessId
        The common ancestor of the kernel's processes.
    """

    def __init__(self, connection: ConnectionInfo, file: Path, root: ProcessId) -> None:
        self._connection, self._file, self._root = connection, file, root
        self._good_ids: tuple[FileId, ...] = ()
        self._good_file: FileId = None

    @property
    def is_fast(self) -> bool:
        """Whether `find_fault` reads no tables of the system; it then needs no thread."""
        return self._connection.transport == "ipc"

    def find_fault(self) -> str:
        """Explain why a new client could not attach.

        The result is ``""`` if a new client can attach, or if the system's tables of listening
        sockets cannot be read.
        """
        ids = tuple(map(_file_id, (str(self._file), *self._connection.socket_paths())))
        if ids == self._good_ids and self._connection.transport == "ipc":
            return ""
        fault = self._file_fault() or self._socket_fault()
        self._good_ids = () if fault else ids
        return fault

    def has_file(self) -> bool:
        """Check whether the connection file contains the kernel's key and addresses."""
        return not self._file_fault()

    def _file_fault(self) -> str:
        file_id = _file_id(str(self._file))
        if file_id is not None and file_id == self._good_file:
            return ""
        fault = self._content_fault()
        self._good_file = None if fault else file_id
        return fault

    def _content_fault(self) -> str:
        try:
            content = parse_connection(json.loads(read_regular(self._file, MAX_OWN_BYTES)))
        except (OSError, ValueError) as error:
            return f"its connection file cannot be read: {error}"
        expected = self._connection
        has_urls = all(content.url(channel) == expected.url(channel) for channel in CHANNELS)
        if content.key == expected.key and has_urls:
            return ""
        return f"its connection file {self._file} differs from what the kernel was launched with"

    def _socket_fault(self) -> str:
        if self._connection.transport == "ipc":
            return find_ipc_fault(self._connection, _is_listening)
        try:
            tables = [Path(f"/proc/self/net/{name}").read_text("ascii") for name in ("tcp", "tcp6")]
            processes = [self._root, *descendants(self._root)]
            inodes = {inode for process in processes for inode in sockets_of(process.pid)}
            return find_tcp_fault(self._connection, parse_listeners(tables), inodes)
        except (OSError, ValueError, IndexError):
            return ""


def _file_id(path: str) -> FileId:
    """Return the device, inode and modification time of a file; None for a missing file."""
    try:
        status = os.stat(path, follow_symlinks=False)  # noqa: PTH116  # half of Path's time
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _is_listening(path: str) -> bool:
    """Check whether a Unix socket accepts connections; a full queue counts as accepting."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True
