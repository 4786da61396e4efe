"""Profiles that are dropped into a folder, edited there or removed take effect by themselves.

Rules. It is a reload like any other, so nothing live is touched. A folder is read only once
it has been quiet for a moment, so a file that is still being written is not acted on.
"""

import asyncio
import contextlib
import logging

from kconnd.daemon.kernels import Kernels
from kconnd.errors import ProfileError
from kconnd.system.files.watcher import FolderWatcher
from kconnd.system.hung_calls import PathSteps, StuckError

QUIET = 0.3  # seconds without a change, after which what is written counts as complete
AT_MOST = 5.0  # seconds after which it is read all the same
SCAN_INTERVAL_S = 30.0  # between scans for kernel specs, of which file servers report no change
AGAIN = 10.0  # seconds between looks for a folder that was not there, or was another

log = logging.getLogger("kconnd")


async def look(folders: FolderWatcher, paths: PathSteps) -> bool:
    """Tell whether folders have come or gone; what keeps one from being watched is logged.

    Each is touched in a thread first: one that hangs is to hold up nobody.
    """
    before, found = folders.trouble, False
    try:
        await paths.run(folders.probe)
    except StuckError as error:
        folders.trouble = str(error)
    else:
        found = folders.refresh()
    if folders.trouble not in {"", before}:
        log.warning("%s; kconnd-ctl reload reads the profiles", folders.trouble)
    return found


async def pick_up_for_ever(kernels: Kernels, folders: FolderWatcher, paths: PathSteps) -> None:
    """Read the profiles again whenever a folder of theirs has changed."""
    with folders:
        while True:
            changed = await folders.wait_for_change(AGAIN)
            if changed:
                await _rest(folders)
            while await look(folders, paths):
                changed = True
                await _rest(folders)
            if changed:
                await _reload(kernels)


async def follow_kernelspecs(kernels: Kernels, folders: FolderWatcher, paths: PathSteps) -> None:
    """Scan for kernel specs whenever a folder of them changes, and every `SCAN_INTERVAL_S`."""
    with folders:
        while True:
            await look(folders, paths)
            await kernels.catalog.refresh()
            if await folders.wait_for_change(SCAN_INTERVAL_S):
                await _rest(folders)


async def _reload(kernels: Kernels) -> None:
    try:
        difference = await kernels.reload()
    except ProfileError as error:
        log.error("%s; %s", error, error.hint)  # noqa: TRY400  # its sentence says it all
        return
    if difference.added or difference.changed or difference.removed:
        log.info("profiles have changed: %s", difference)


async def _rest(folders: FolderWatcher) -> None:
    """Wait until nothing has changed for a moment."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(AT_MOST):
            while await folders.wait_for_change(QUIET):
                pass
