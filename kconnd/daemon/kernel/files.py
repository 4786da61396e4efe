"""The files of one kernel on disk: its connection file, sockets, lock and granted ports.

A full or read-only disk must not stop a running kernel. If a step that can be repeated later fails,
the failure is logged and nothing else happens. Such steps are the restoration of a connection file
and the removal of files after the exit. A launch needs a connection file, and fails if the file
cannot be written. While a process of the kernel holds the lock, none of the kernel's files is
removed or replaced.
"""

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from kconnd.core.kernel.exposure import describe_rewriting
from kconnd.core.launch.connection import ConnectionInfo, parse_connection
from kconnd.core.launch.containers import Place, see_from_inside
from kconnd.core.launch.login_command import find_setup_failures
from kconnd.daemon.context import World
from kconnd.daemon.kernel.claims import is_held
from kconnd.daemon.kernel.place import PRIVATE_PREFIX
from kconnd.errors import StillRunningError
from kconnd.system.files.private import is_locked, is_private, read_tail, write_private
from kconnd.system.files.regular import MAX_OWN_BYTES, read_regular
from kconnd.system.process.namespaces import hides_file
from kconnd.system.process.processes import ProcessId

OUTPUT_TAIL_BYTES = 4096  # the end of the output, which is stored with an exit
SETUP_TAIL_BYTES = 256 << 10  # the end of the output in which failures of setup are looked for
MAX_SETUP_FAILURES = 5
LAUNCH_MARK = "[kconnd: launch "  # the shim writes this line before each process's output

log = logging.getLogger("kconnd")


class RuntimeFiles:
    """Writes, reads and removes the files of one kernel.

    Parameters
    ----------
    name : str
        The kernel's name.
    world : World
        The objects that all kernels share.
    """

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.paths = world.files(name)
        self.connection_file = Path(self.paths.connection_file)
        self.log = Path(self.paths.log)
        self._world = world

    def check_unlocked(self) -> None:
        """Check that no process of the kernel is alive, before a launch replaces the files.

        Raises
        ------
        StillRunningError
            If a process holds the kernel's lock.
        """
        if is_held(self._world, self.name):
            raise StillRunningError(
                f"an earlier process of the kernel holds {self.paths.lock}",
                hint=f"kconnd-ctl stop {self.name} stops it if it runs on this machine",
            )

    def lock_to_search(self) -> Path:
        """Return the path of the lock file by which to find the kernel's shim.

        Versions before 0.1.0 stored the lock file in the runtime folder. This old path is returned
        if a process holds the lock there.
        """
        old_lock = Path(self.paths.old_lock)
        return old_lock if is_locked(old_lock) else Path(self.paths.lock)

    def recorded_at(self) -> float | None:
        """Return the time at which the shim wrote its facts, in seconds since the epoch."""
        try:
            return Path(self.paths.facts).stat().st_mtime
        except OSError:
            return None

    def last_output(self) -> str:
        """Return the end of the latest process's output."""
        tail = read_tail(self.log, OUTPUT_TAIL_BYTES)
        return tail.rpartition(LAUNCH_MARK)[2].partition("\n")[2]

    def setup_failures(self) -> tuple[str, ...]:
        """Return the failures of ``setup`` that the latest process's login shell has reported."""
        tail = read_tail(self.log, SETUP_TAIL_BYTES)
        return find_setup_failures(tail.rpartition(LAUNCH_MARK)[2])[:MAX_SETUP_FAILURES]

    # --- the connection file

    def write_connection(self, connection: ConnectionInfo) -> None:
        """Write the connection file for clients."""
        write_private(self.connection_file, serialize(connection))

    def write_own_copy(self, connection: ConnectionInfo, place: Place) -> None:
        """Write the copy of the connection file that a kernel in a container sees, and its link."""
        if not place.folder:
            return
        copy = Path(place.folder) / self.connection_file.name
        write_private(copy, serialize(see_from_inside(place, connection)))
        link = Path(self.paths.own_copy)
        link.unlink(missing_ok=True)
        link.symlink_to(copy)

    def own_copy(self) -> Path | None:
        """Return the copy of the connection file that a kernel in a container sees, or None."""
        try:
            copy = Path(self.paths.own_copy).readlink()
        except OSError:
            return None
        # Another program may have replaced the link, and the copy is removed by this path.
        is_ours = copy.name == self.connection_file.name
        return copy if is_ours and copy.parent.name.startswith(PRIVATE_PREFIX) else None

    def find_rewriting(self, connection: ConnectionInfo) -> tuple[bool, str]:
        """Return whether the launch has written the connection file again, and a warning.

        The warning is ``""`` if the file means the same as before.
        """
        copy = self.own_copy()
        if copy is not None and connection.transport == "ipc":
            return (
                False,
                "",
            )  # the copy has other paths; no kernel with Unix sockets writes it again
        return find_rewriting(copy or self.connection_file, connection)

    def find_hidden_file(self, shim: ProcessId, place: Place) -> str:
        """Return the connection file's path in a container that does not have it; else ``""``."""
        copy = self.own_copy()
        if copy is not None and not place.inside:
            return ""  # the process was adopted, so the path in the container is unknown
        file = copy or self.connection_file
        seen_as = f"{place.inside or file.parent}/{file.name}"
        return seen_as if hides_file(shim, file, seen_as) else ""

    def _remove_own_copy(self) -> None:
        if copy := self.own_copy():
            copy.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # other kernels use the folder, too
                copy.parent.rmdir()

    def read_connection(self) -> ConnectionInfo | None:
        """Read the connection file; None if the file is missing or damaged."""
        try:
            return parse_connection(json.loads(read_regular(self.connection_file, MAX_OWN_BYTES)))
        except (OSError, ValueError) as error:
            log.error("%s: reading its connection file: %s", self.name, error)
            return None

    def claim(self, connection: ConnectionInfo) -> None:
        """Reserve the ports of a live kernel, and restore its connection file."""
        with self._logging("claiming its ports and connection file"):
            if connection.transport == "tcp":
                self._world.ledger.keep(self.name, connection.ports)
            if not is_private(self.connection_file, serialize(connection)):
                self.write_connection(connection)

    # --- removal

    def remove_sockets(self, connection: ConnectionInfo | None) -> None:
        """Remove the sockets of an earlier process, including those it bound to wrong paths."""
        paths = (*connection.socket_paths(), *connection.stray_paths()) if connection else ()
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108  # a third of Path's time, for ten paths at each start

    def clean_up(self, connection: ConnectionInfo | None, *, recorded: bool = True) -> None:
        """Remove the files of the exited kernel, except the log and the record.

        Parameters
        ----------
        connection : ConnectionInfo, optional
            The last connection of the kernel, which contains the paths of the sockets.
        recorded : bool
            Whether the saved record contains the exit. If not, the shim's files are kept, because
            the next daemon needs them to detect the exit.
        """
        with self._logging("cleaning up after it"):
            if is_held(self._world, self.name):
                log.error("%s: a process is still alive, so nothing was removed", self.name)
                return
            self.remove_sockets(connection)
            self._remove_own_copy()
            self.connection_file.unlink(missing_ok=True)
            self._world.ledger.release(self.name)
            if recorded:
                for path in (*self.paths.live, self.paths.lock):
                    Path(path).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _logging(self, action: str) -> Iterator[None]:
        """Log an error of the disk instead of raising it, because the kernel must keep running."""
        try:
            yield
        except OSError as error:
            log.error("%s: %s: %s", self.name, action, error)


def serialize(connection: ConnectionInfo) -> bytes:
    """Return the content of a connection file as the daemon writes it."""
    return json.dumps(connection.to_file(), indent=1).encode()


def find_rewriting(file: Path, connection: ConnectionInfo) -> tuple[bool, str]:
    """Return whether a kernel's connection file was written again, and a warning about it.

    The warning is ``""`` if the file means the same as before.
    """
    try:
        content = read_regular(file, MAX_OWN_BYTES)
    except OSError:
        return False, ""  # a removed file is no evidence
    if content == serialize(connection):
        return False, ""
    return True, describe_rewriting(connection.to_file(), content)
