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
    told = ""
    while True:
        await asyncio.sleep(ROUND)  # who cleans up a folder tells nobody
        try:
            mend(kernels, site)
            told = ""
        except (OSError, KconndError) as error:
            if str(error) != told:
                told = str(error)
                log.error("mending the runtime folder: %s", error)  # noqa: TRY400


def mend(kernels: Kernels, site: Site) -> None:
    """Make what is gone again."""
    runtime_dir = kernels.world.runtime_dir
    make_folders(runtime_dir)
    site.listen_again()
    # Two folders are read in the place of six looks for each kernel.
    there = {path for folder in (runtime_dir, runtime_dir / "ipc") for path in _files(str(folder))}
    for actor in kernels.all():
        actor.life.mend(there)


def _files(folder: str) -> list[str]:
    return [f"{folder}/{name}" for name in os.listdir(folder)]  # noqa: PTH208  # paths as text
