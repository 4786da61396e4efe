"""What keeps a daemon and its kernels within reach when somebody cleans up the runtime folder.

Folders, the socket and connection files are looked for once in a while, and made again where
they are gone. Nothing here changes a kernel.
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

ROUND = 5.0  # seconds
MOMENT = 2.0  # seconds; file systems tell of times by some 10 ms, a few by whole seconds

log = logging.getLogger("kconnd")


def make_folders(runtime_dir: Path) -> None:
    """Make the runtime folder and those in it, private, where they are missing.

    Raises
    ------
    UnsafePathError
        If one is there and another user may have had a hand in it.
    """
    here = str(runtime_dir)
    for folder in (here, ipc_dir(here), live_dir(here)):
        ensure_private_dir(Path(folder))


async def mend_for_ever(kernels: Kernels, site: Site) -> None:
    """Go round; trouble is told once, and tried again."""
    told, rest = "", Rest()
    while True:
        await asyncio.sleep(ROUND)  # who cleans up a folder tells nobody
        try:
            make_folders(kernels.world.runtime_dir)
            site.restore_socket()
            await kernels.look_at_foreign()
            for actor in kernels.all():
                actor.save_again()
                if actor.process.fault:
                    await actor.process.find_fault()
            found, now = state(kernels), kernels.world.clock()
            if not rest.holds(found, now):
                mend(kernels)
                rest.mended(found, now)
            told = ""
        except (OSError, KconndError) as error:
            if str(error) != told:
                told = str(error)
                log.error("mending the runtime folder: %s", error)  # noqa: TRY400


def state(kernels: Kernels) -> object:
    """Give what is no more the same once a kernel, or what there is in the folders, is not."""
    stamps = [stamp_file(folder) for folder in _folders(kernels)]
    return kernels.world.bus.count, [stamp.marks for stamp in stamps]


class Rest:
    """Whether nothing has happened since all was mended.

    A change that comes right after another may leave the same time in the file system. So what
    has changed is mended until it has been the same for `MOMENT`, by the monotonic clock.
    """

    def __init__(self) -> None:
        self._state: object = None
        self._since, self._mended_at = 0.0, 0.0

    def holds(self, state: object, now: float) -> bool:
        """Tell whether there is nothing to mend."""
        if state != self._state:
            self._state, self._since, self._mended_at = state, now, now
        return self._mended_at - self._since >= MOMENT

    def mended(self, state: object, now: float) -> None:
        """Take note that all was mended which there was in this state."""
        if state == self._state:
            self._mended_at = now


def mend(kernels: Kernels) -> None:
    """Make what is gone of each kernel again."""
    there: set[str] = set()  # a few folders are read in the place of six looks for each kernel
    for folder in _folders(kernels):
        with contextlib.suppress(FileNotFoundError):  # of a daemon that was elsewhere
            there |= {f"{folder}/{name}" for name in os.listdir(folder)}  # noqa: PTH208  # paths as text
    for actor in kernels.all():
        actor.process.mend(there)


def _folders(kernels: Kernels) -> list[str]:
    """List where connection files and sockets are; those of kernels taken up may be elsewhere."""
    runtime_dir = str(kernels.world.runtime_dir)
    known = (actor.process.connection for actor in kernels.all())
    sockets = {os.path.dirname(one.ip) for one in known if one and one.transport == "ipc"}  # noqa: PTH120  # the same
    return sorted({runtime_dir, ipc_dir(runtime_dir), *sockets})
