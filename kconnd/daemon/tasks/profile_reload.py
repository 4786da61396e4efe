"""Reloads profiles and kernel specs when files in their folders change.

As with any reload, no live kernel is changed. A folder is read only once it has been
quiet for a moment, so that no half-written file is read.
"""

import asyncio
import contextlib
import logging

from kconnd.daemon.kernels import Kernels
from kconnd.errors import ProfileError
from kconnd.system.files.watcher import FolderWatcher
from kconnd.system.hung_calls import PathSteps, StuckError

QUIET_TIME_S = 0.3  # without a change, after which a write counts as complete
MAX_QUIET_WAIT_S = 5.0
SCAN_INTERVAL_S = 30.0  # between scans for kernel specs: file servers report no changes
MISSING_FOLDER_INTERVAL_S = 10.0  # between checks for folders that were missing or replaced

log = logging.getLogger("kconnd")


async def watch_folders(folders: FolderWatcher, paths: PathSteps) -> bool:
    """Watch folders that exist by now, and return whether one has appeared or disappeared.

    A thread touches each of them first, so that a folder that hangs does not block the loop. The
    reason why a folder cannot be watched is logged.
    """
    logged_error, has_changed = folders.trouble, False
    try:
        await paths.run(folders.probe)
    except StuckError as error:
        folders.trouble = str(error)
    else:
        has_changed = folders.refresh()
    if folders.trouble not in {"", logged_error}:
        log.warning("%s; kconnd-ctl reload reads the profiles", folders.trouble)
    return has_changed


async def pick_up_for_ever(kernels: Kernels, folders: FolderWatcher, paths: PathSteps) -> None:
    """Reload the profiles whenever one of their folders changes."""
    with folders:
        while True:
            changed = await folders.wait_for_change(MISSING_FOLDER_INTERVAL_S)
            if changed:
                await _wait_until_quiet(folders)
            while await watch_folders(folders, paths):
                changed = True
                await _wait_until_quiet(folders)
            if changed:
                await _reload(kernels)


async def follow_kernelspecs(kernels: Kernels, folders: FolderWatcher, paths: PathSteps) -> None:
    """Scan for kernel specs whenever a folder of them changes, and every `SCAN_INTERVAL_S`."""
    with folders:
        while True:
            await watch_folders(folders, paths)
            await kernels.catalog.refresh()
            if await folders.wait_for_change(SCAN_INTERVAL_S):
                await _wait_until_quiet(folders)


async def _reload(kernels: Kernels) -> None:
    try:
        difference = await kernels.reload()
    except ProfileError as error:
        log.error("%s; %s", error, error.hint)
        return
    if difference.added or difference.changed or difference.removed:
        log.info("profiles have changed: %s", difference)


async def _wait_until_quiet(folders: FolderWatcher) -> None:
    """Wait until nothing has changed for `QUIET_TIME_S`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(MAX_QUIET_WAIT_S):
            while await folders.wait_for_change(QUIET_TIME_S):
                pass
