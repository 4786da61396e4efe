"""Detects that a new process would import other modules than the zygote has imported.

A snapshot covers the folders on the module search path and the files of the imported modules. A
snapshot does not cover files of the standard library. These files change together with the
interpreter, and the interpreter's file is covered. In a folder of installed packages, every change
counts. In a user's own folder, such as a project folder, unrelated files change often. There, a
change counts only if a new process would import other modules.

Rules. This module imports the standard library only, as `kconnd.programs.zygote.main` explains. A
start waits for the check, so a check must be fast: one stat(2) per path, and one listing per
changed own folder. The result of a check is the changed path, so that kconnd can show the user why
a kernel was not forked.
"""

from __future__ import annotations

import array
import contextlib
import os
import sys
import time

TYPE_CHECKING = False  # importing typing would add a module to every kernel
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

# In any folder, names with these endings belong to an installed package.
PACKAGE_ENDINGS = (".dist-info", ".egg-info", ".egg-link", ".pth")
# Two changes within this time can give a folder equal timestamps.
STAMP_RESOLUTION_S = 2.0
PACKAGES = "-packages"  # in the paths of installed packages: site-packages, dist-packages
MAX_NUMBER = (1 << 63) - 1  # the largest number in an array of signed 64-bit numbers


def import_locations() -> list[str]:
    """List the paths, existing or not, that determine where a new process finds modules."""
    binaries = os.path.dirname(sys.executable)
    folders = list(sys.path)
    site = sys.modules.get("site")
    # The user's site-packages are missing in sys.path if the folder does not exist yet.
    if site is not None and site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    configuration = [
        os.path.join(folder, "pyvenv.cfg") for folder in (binaries, os.path.dirname(binaries))
    ]
    for folder in folders:
        if PACKAGES in folder:
            with contextlib.suppress(OSError):
                names = sorted(name for name in os.listdir(folder) if name.endswith(".pth"))
                configuration += [os.path.join(folder, name) for name in names]
    return list(dict.fromkeys([sys.executable, *configuration, *folders]))


def watched_paths() -> tuple[list[str], list[str]]:
    """List the paths that determine the imports of a new process.

    Returns
    -------
    tuple of list
        The files and folders in which every change counts, and the user's own folders, in which a
        change counts only if it can affect the import of a module.
    """
    library = os.path.dirname(os.__file__)
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    watched_files = [
        file for file in files if file and (PACKAGES in file or not file.startswith(library))
    ]
    locations = import_locations()
    own_folders = {
        path
        for path in locations
        if os.path.isdir(path) and PACKAGES not in path and not path.startswith(library)
    }
    other_locations = (path for path in locations if path not in own_folders)
    return [*other_locations, *sorted(watched_files)], sorted(own_folders)


class MissingModules:
    """The last import finder, which records the modules that no other finder has found."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def find_spec(self, name: str, *_: object) -> None:
        """Record the name and return None (importlib.abc.MetaPathFinder)."""
        self.names.add(name)

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Install this object as the last finder of all imports until the block ends."""
        finder: Any = self
        sys.meta_path.append(finder)
        try:
            yield
        finally:
            # ValueError means that a module has replaced the list of finders.
            with contextlib.suppress(ValueError):
                sys.meta_path.remove(finder)


def related_files(modules: Iterable[str], error: BaseException) -> set[str]:
    """List the files that may have caused a refusal: files of the modules and of the traceback."""
    files = set()
    for name in modules:
        parts = name.split(".")
        for end in range(len(parts)):
            file = getattr(sys.modules.get(".".join(parts[: end + 1])), "__file__", None)
            files |= {file, os.path.dirname(file)} if file else set()
    cause: BaseException | None = error
    while cause is not None:
        files.add(str(getattr(cause, "filename", None) or ""))  # a SyntaxError has this attribute
        trace = cause.__traceback__
        while trace is not None:
            files.add(trace.tb_frame.f_code.co_filename)
            trace = trace.tb_next
        cause = cause.__cause__
    return {file for file in files if os.path.isabs(file)}


def signature(path: str) -> list[int] | None:
    """Return the timestamp, inode and size of a file or folder; None if the path does not exist."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_mtime_ns, status.st_ino, status.st_size]


class FolderSnapshot:
    """The state of one folder.

    Parameters
    ----------
    state : list of int, optional
        The `signature` of the folder; None if the folder does not exist.
    names : frozenset of str
        The relevant names in the folder: those that can affect the import of a module.
    """

    def __init__(self, state: list[int] | None, names: frozenset[str]) -> None:
        self.signature, self.names = state, names
        self.inode = state[1] if state else 0
        # If the timestamp is recent, the folder can change and keep an equal signature. An equal
        # signature then proves nothing.
        self.is_conclusive = state is None or state[0] < (time.time() - STAMP_RESOLUTION_S) * 1e9


class OwnFolders:
    """The user's own folders, in which a change counts if it can affect the import of a module.

    Parameters
    ----------
    folders : iterable of str
        The paths of the folders.
    names : iterable
        The names of modules. Only the part before the first dot is used. Objects that are not
        strings are ignored; some programs add such objects to the keys of ``sys.modules``.
    """

    def __init__(self, folders: Iterable[str], names: Iterable[object]) -> None:
        # site tries to import these two modules before `MissingModules` can record them as missing.
        always = {"sitecustomize", "usercustomize"}
        strings = (name for name in names if isinstance(name, str))
        self.names = frozenset({name.partition(".")[0] for name in strings} | always)
        self.snapshots = {folder: self._snapshot(folder) for folder in folders}

    def changed(self) -> str | None:
        """Return a folder that was replaced or whose relevant names have changed, or None."""
        for folder, before in self.snapshots.items():
            if before.is_conclusive and signature(folder) == before.signature:
                continue
            now = self._snapshot(folder)
            if now.inode != before.inode or now.names != before.names:
                return folder
            self.snapshots[folder] = now  # the next check does not have to list the folder again
        return None

    def _snapshot(self, folder: str) -> FolderSnapshot:
        # The signature is read first, so that the next check detects a change during the listing.
        state = signature(folder)
        try:
            entries = os.listdir(folder)
        except OSError:
            entries = []
        relevant = (
            name
            for name in entries
            if name.partition(".")[0] in self.names or name.endswith(PACKAGE_ENDINGS)
        )
        return FolderSnapshot(state, frozenset(relevant))


class DiskSnapshot:
    """The state of all paths that determine the imports of a new process.

    A check takes 2 microseconds per path, and 0.8 ms for all paths of ipykernel. After a fork,
    reading a Python object copies the object's page. All paths are therefore stored in a single
    object, and their states in another. The own folders are few and are stored separately.

    Parameters
    ----------
    paths : list of str
        The files and folders in which every change counts.
    own_folders : OwnFolders
        The user's own folders, in which a change counts only if it changes a relevant name.
    """

    def __init__(self, paths: list[str], own_folders: OwnFolders) -> None:
        self.paths, self.own_folders = os.fsencode("\0".join(paths)), own_folders
        self.checked_ns = 0  # the start of the last check, on the monotonic clock
        self.changed_path: str | None = None
        self.state = self._read()

    def changed(self, requested_at_ns: int) -> str | None:
        """Return a path that had changed at the time of a request; None if no path had changed.

        The last check suffices if it began after the request; otherwise, the paths are checked now.
        Once a changed path was found, all later calls return this path.
        """
        if self.changed_path is None and self.checked_ns <= requested_at_ns:
            self.changed_path = self._compare(self._read()) or self.own_folders.changed()
        return self.changed_path

    def _read(self) -> bytes:
        """Read the states of all paths into one array of numbers."""
        self.checked_ns = time.monotonic_ns()
        numbers: list[int] = []
        for path in self.paths.split(b"\0"):
            try:
                status = os.stat(path)
            except OSError:
                numbers += (0, 0, 0)
            else:
                stamp, inode = status.st_mtime_ns & MAX_NUMBER, status.st_ino & MAX_NUMBER
                numbers += (stamp, inode, status.st_size)
        return array.array("q", numbers).tobytes()

    def _compare(self, now: bytes) -> str | None:
        if now == self.state:
            return None
        paths = self.paths.split(b"\0")
        size = len(now) // len(paths)
        parts = (slice(start, start + size) for start in range(0, len(now), size))
        index = next(at for at, part in enumerate(parts) if now[part] != self.state[part])
        return os.fsdecode(paths[index])
