"""Chooses and prepares the folder of the connection file of a kernel in a container.

`kconnd.core.launch.containers` decides which folder to use. The connection file for clients stays
in the runtime folder. In the chosen folder, a private folder of this daemon contains the sockets,
and the kernel's own copy of the connection file with the paths that the kernel sees. The private
folder is necessary because the sockets of a kernel have the permissions of its umask. A link in
the folder of live kernels leads to the copy, so that any daemon can remove the copy.
"""

import asyncio
import hashlib
import os
import stat
from dataclasses import replace
from pathlib import Path

from kconnd.core.launch.containers import (
    RUNTIME_FOLDER,
    Place,
    UserFolders,
    find_place,
    read_container,
)
from kconnd.core.profile.model import Profile
from kconnd.daemon.context import World
from kconnd.errors import KconndError, StartFailedError
from kconnd.system.files.private import ensure_private_dir
from kconnd.system.launch_files import LaunchFiles

PRIVATE_PREFIX = ".kconnd-"
DIGEST_CHARS = 8


async def choose_place(world: World, profile: Profile, files: LaunchFiles) -> Place:
    """Choose and create the folder of the next process's connection file and sockets.

    Raises
    ------
    StartFailedError
        If the folder cannot be used.
    """
    folders = UserFolders(world.user.home, files.cwd)
    container = read_container(files.spec.argv, folders)
    wanted = profile.connection_folder
    if profile.warm or (container is None and not wanted):
        return RUNTIME_FOLDER
    if wanted.startswith("~"):
        wanted = os.path.expanduser(wanted)  # noqa: ASYNC240, PTH111  # no path, and no I/O
    candidates = (str(world.runtime_dir), str(world.store.state_dir))
    place = find_place(container, wanted, candidates)
    return await asyncio.to_thread(_prepare, world, place) if place.folder else place


def _prepare(world: World, place: Place) -> Place:
    """Create the private folder of this daemon in the folder of a place."""
    text = f"{world.store.origin.machine}\n{world.runtime_dir}"
    name = f"{PRIVATE_PREFIX}{hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARS]}"
    private = Path(place.folder) / name
    try:
        ensure_private_dir(private)
        _check_owner(private.parent)
    except OSError as error:
        raise StartFailedError(
            f"using {place.folder} for its connection file: {error.strerror or error}",
            hint="set 'connection_folder' in the profile to a folder of the user",
        ) from error
    except KconndError as error:
        raise StartFailedError(
            f"using {place.folder} for its connection file: {error.message}", hint=error.hint
        ) from error
    return replace(place, folder=str(private), inside=f"{place.inside.rstrip('/')}/{name}")


def _check_owner(folder: Path) -> None:
    """Refuse a folder in which other users can replace the private folder."""
    status = folder.stat()
    if status.st_uid not in {0, os.geteuid()}:
        raise StartFailedError(
            f"it belongs to uid {status.st_uid}",
            hint="set 'connection_folder' in the profile to a folder of the user",
        )
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        raise StartFailedError(
            f"other users may write to it (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"chmod go-w {folder}, or set another 'connection_folder' in the profile",
        )
