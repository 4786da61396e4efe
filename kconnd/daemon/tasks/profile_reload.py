"""Reloads profiles and kernel specs when files in their folders change.

A reload does not change live kernels. After a change, the folders are read when nothing has changed
for a while, so that no incomplete file is read. Until then, `Kernels.up_to_date` is cleared, and a
request for an unknown kernel waits.
"""

import asyncio
import contextlib
import logging

from kconnd.daemon.kernels import Kernels
from kconnd.errors import ProfileError
from kconnd.system.files.watcher import FolderWatcher
from kconnd.system.hung_calls import PathSteps, StuckError

QUIET_TIME_S = 0.3  # after this time without changes, writes count as complete
MAX_QUIET_WAIT_S = 5.0
# Kernel specs are also scanned periodically, because file servers report no changes.
SCAN_INTERVAL_S = 30.0
MISSING_FOLDER_INTERVAL_S = 10.0  # the time between checks for missing and replaced folders

log = logging.getLogger("kconnd")


async def watch_folders(folders: FolderWatcher, paths: PathSteps) -> bool:
    """Watch the folders that exist now; return whether a folder has appeared or disappeared.

    A thread accesses each folder first, so that a folder that hangs does not block the event loop.
    If a folder cannot be watched, the reason is logged.
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
    """Reload the profiles after each change in the folders of profiles."""
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
                if not folders.has_changed:
                    kernels.up_to_date.set()


async def follow_kernelspecs(kernels: Kernels, folders: FolderWatcher, paths: PathSteps) -> None:
    """Scan for kernel specs after each change in their folders and every `SCAN_INTERVAL_S`."""
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
