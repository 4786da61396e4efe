"""What keeps a daemon and its kernels within reach when somebody cleans up the runtime folder.

Folders, the socket and connection files are looked for once in a while, and made again where
they are gone. Nothing here changes a kernel.
"""

import asyncio
import logging
import os
from pathlib import Path

from kconnd.daemon.kernels import Kernels
from kconnd.errors import KconndError
from kconnd.system.files import ensure_private_dir
from kconnd.system.http import Site

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
    for folder in (runtime_dir, runtime_dir / "ipc", runtime_dir / "live"):
        ensure_private_dir(folder)


async def mend_for_ever(kernels: Kernels, site: Site) -> None:
    """Go round; trouble is told once, and tried again."""
    told, mended = "", None
    while True:
        await asyncio.sleep(ROUND)  # who cleans up a folder tells nobody
        try:
            make_folders(kernels.world.runtime_dir)
            site.listen_again()
            found = state(kernels)
            if found is None or found != mended:
                mend(kernels)
            mended, told = found, ""
        except (OSError, KconndError) as error:
            if str(error) != told:
                told = str(error)
                log.error("mending the runtime folder: %s", error)  # noqa: TRY400


def state(kernels: Kernels) -> object:
    """Give what is no more the same once a kernel, or what there is in the folders, is not.

    None where that has changed just now: a further change might leave the same time.
    """
    found = [os.stat(folder) for folder in _folders(kernels)]  # noqa: PTH116  # paths as text
    if any(kernels.world.wall_clock() - one.st_mtime < MOMENT for one in found):
        return None
    return kernels.world.bus.count, [(one.st_dev, one.st_ino, one.st_mtime_ns) for one in found]


def mend(kernels: Kernels) -> None:
    """Make what is gone of each kernel again."""
    # Two folders are read in the place of six looks for each kernel.
    there = {f"{folder}/{name}" for folder in _folders(kernels) for name in os.listdir(folder)}  # noqa: PTH208  # paths as text
    for actor in kernels.all():
        actor.life.mend(there)


def _folders(kernels: Kernels) -> tuple[str, str]:
    runtime_dir = str(kernels.world.runtime_dir)
    return runtime_dir, f"{runtime_dir}/ipc"
