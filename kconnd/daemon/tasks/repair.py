"""Restores deleted files of the runtime folder: folders, the daemon's socket, connection files.

Programs that clean up /tmp can delete the content of the runtime folder while daemon and kernels
run. The daemon periodically looks for missing files and creates them again. The kernels themselves
are not changed.
"""

import asyncio
import contextlib
import logging
import os
from pathlib import Path

from kconnd.core.launch.kernel_files import ipc_dir, live_dir
from kconnd.daemon.kernels import Kernels
from kconnd.errors import KconndError
from kconnd.system.files.private import ensure_private_dir
from kconnd.system.files.stamps import stamp_file
from kconnd.system.http.http_server import Site

REPAIR_INTERVAL_S = 5.0
STAMP_RESOLUTION_S = 2.0  # most file systems store times to 10 ms, some to seconds

log = logging.getLogger("kconnd")


def make_folders(runtime_dir: Path) -> None:
    """Create the private runtime folder and its subfolders if they are missing.

    Raises
    ------
    UnsafePathError
        If another user may have changed a folder.
    """
    path = str(runtime_dir)
    for folder in (path, ipc_dir(path), live_dir(path)):
        ensure_private_dir(Path(folder))


async def repair_for_ever(kernels: Kernels, site: Site) -> None:
    """Repair every `REPAIR_INTERVAL_S`; after an error, log it once and try again."""
    logged_error, settled = "", Settled()
    while True:
        await asyncio.sleep(REPAIR_INTERVAL_S)  # polled, because the folder may be replaced
        try:
            make_folders(kernels.world.runtime_dir)
            site.restore_socket()
            await kernels.recheck_foreign()
            forget_ended_runs(kernels)
            for actor in kernels.all():
                actor.save_again()
                if actor.process.fault:
                    await actor.process.find_fault()
            stamps, now = read_stamps(kernels), kernels.world.clock()
            if not settled.holds(stamps, now):
                repair_files(kernels)
                settled.note_repair(stamps, now)
            logged_error = ""
        except (OSError, KconndError) as error:
            if str(error) != logged_error:
                logged_error = str(error)
                log.error("repairing the runtime folder: %s", error)


def forget_ended_runs(kernels: Kernels) -> None:
    """Remove the records and logs of kernels that were stopped with their runs."""
    for actor in kernels.all():
        if actor.record.is_ended_run and not actor.unrecorded:
            kernels.forget(actor.record.name)
            kernels.world.store.remove(actor.record.name)


def read_stamps(kernels: Kernels) -> object:
    """Return a value that differs after each change of a kernel or of a folder's content."""
    stamps = [stamp_file(folder) for folder in _folders(kernels)]
    return kernels.world.bus.count, [stamp.marks for stamp in stamps]


class Settled:
    """Decides whether anything has changed since the last repair.

    Two changes shortly after each other can have equal times in the file system. Repairs therefore
    continue until the stamps have been equal for `STAMP_RESOLUTION_S`.
    """

    def __init__(self) -> None:
        self._stamps: object = None
        self._changed_at, self._repaired_at = 0.0, 0.0

    def holds(self, stamps: object, now: float) -> bool:
        """Return whether no repair is needed."""
        if stamps != self._stamps:
            self._stamps, self._changed_at, self._repaired_at = stamps, now, now
        return self._repaired_at - self._changed_at >= STAMP_RESOLUTION_S

    def note_repair(self, stamps: object, now: float) -> None:
        """Record a repair, with the stamps that were read before the repair."""
        if stamps == self._stamps:
            self._repaired_at = now


def repair_files(kernels: Kernels) -> None:
    """Restore the deleted files of all kernels."""
    paths: set[str] = set()  # listing folders is faster than six stat calls per kernel
    for folder in _folders(kernels):
        # An earlier daemon may have used another folder, which may be missing now.
        with contextlib.suppress(FileNotFoundError):
            paths |= {f"{folder}/{name}" for name in os.listdir(folder)}  # noqa: PTH208  # paths as text
    for actor in kernels.all():
        actor.process.mend(paths)


def _folders(kernels: Kernels) -> list[str]:
    """List the folders of connection files and sockets, including those of earlier daemons."""
    runtime_dir = str(kernels.world.runtime_dir)
    connections = (actor.process.connection for actor in kernels.all())
    prefixes = [ipc.ip for ipc in connections if ipc and ipc.transport == "ipc"]
    socket_dirs = {os.path.dirname(prefix) for prefix in prefixes}  # noqa: PTH120  # paths as text
    return sorted({runtime_dir, ipc_dir(runtime_dir), *socket_dirs})
