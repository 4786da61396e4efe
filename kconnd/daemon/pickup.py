"""Profiles that are dropped into a folder, edited there or removed take effect by themselves.

Rules. It is a reload like any other, so nothing live is touched. A folder is read only once
it has been quiet for a moment, so a file that is still being written is not acted on.
"""

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path

from watchfiles import Change, awatch

from kconnd.daemon.kernels import Kernels
from kconnd.system.profiles import is_profile

QUIET = 300  # milliseconds without a change, after which what is written counts as complete
AT_MOST = 5000  # milliseconds after which it is read all the same
AGAIN = 10.0  # seconds until a folder that was not there is looked for again

log = logging.getLogger("kconnd")


async def pick_up_for_ever(kernels: Kernels, folders: Iterable[Path]) -> None:
    """Read the profiles again whenever a folder of theirs has changed."""
    folders = list(folders)
    while True:
        there = [folder for folder in folders if folder.is_dir()]
        try:
            if there:
                await _pick_up(kernels, there)
        except (OSError, RuntimeError) as error:  # watchfiles has a RuntimeError for many of them
            log.warning("watching %s: %s", ", ".join(map(str, there)), error)
        await asyncio.sleep(AGAIN)  # nothing tells when a folder that is not there comes


async def _pick_up(kernels: Kernels, folders: list[Path]) -> None:
    changes = awatch(
        *folders, watch_filter=_is_profile, step=QUIET, debounce=AT_MOST, recursive=False
    )
    async for _ in changes:
        difference = kernels.reload()
        if difference.added or difference.changed or difference.removed:
            log.info("profiles have changed: %s", difference)


def _is_profile(_change: Change, path: str) -> bool:
    return is_profile(Path(path).name)
