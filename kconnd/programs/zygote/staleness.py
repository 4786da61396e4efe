"""Freshness: whether a zygote still has what a process begun now would import.

What is watched is where modules are found, and the files of those that were imported, but for
the standard library's: another one of that comes with another interpreter, which is watched. To a
folder where packages are installed every change counts; in one of the user's own, such as that of
a project, all kinds of files come and go, and only what a process would import counts.

Rules. Standard library only, as for `kconnd.programs.zygote.main`, which loads it. A look costs no
more than a stat(2) for each place, since a start waits for it, and the list of a folder that has
changed. What differs is named: it may be why a kernel was not forked.
"""

from __future__ import annotations

import array
import contextlib
import os
import sys
import time

TYPE_CHECKING = False  # typing is not needed at run time
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

INSTALLED = (".dist-info", ".egg-info", ".egg-link", ".pth")  # what tells of a package, anywhere
RECENT = 2.0  # seconds: until then another change may have the same time, as file systems count
PACKAGES = "-packages"  # in the path of what is installed: site-packages, dist-packages
NUMBER = (1 << 63) - 1  # the largest in an array


def watched_folders() -> list[str]:
    """List what decides where a fresh process finds modules; what is not there may come."""
    binaries = os.path.dirname(sys.executable)
    folders = list(sys.path)
    site = sys.modules.get("site")
    if site is not None and site.ENABLE_USER_SITE:  # it is on the path where it exists
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


def watched() -> tuple[list[str], list[str]]:
    """List what a fresh process might import otherwise: where from, and all but the library.

    The second list is of folders in which only what would be imported counts.
    """
    library = os.path.dirname(os.__file__)
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    own = [file for file in files if file and (PACKAGES in file or not file.startswith(library))]
    places = watched_folders()
    folders = {
        place
        for place in places
        if os.path.isdir(place) and PACKAGES not in place and not place.startswith(library)
    }
    return [*(place for place in places if place not in folders), *sorted(own)], sorted(folders)


class Missing:
    """The last that an import asks: notes what has not been found, and might be some day."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def find_spec(self, name: str, *_: object) -> None:
        """Find nothing, as all before it (importlib.abc.MetaPathFinder)."""
        self.names.add(name)

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Take part in all imports until the end of the block."""
        finder: Any = self
        sys.meta_path.append(finder)
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):  # somebody has made another list of it
                sys.meta_path.remove(finder)


def concerned(modules: Iterable[str], error: BaseException) -> set[str]:
    """Name the files that a refusal may come from: of the modules named, and of the error."""
    found = set()
    for name in modules:
        parts = name.split(".")
        for end in range(len(parts)):
            file = getattr(sys.modules.get(".".join(parts[: end + 1])), "__file__", None)
            found |= {file, os.path.dirname(file)} if file else set()
    cause: BaseException | None = error
    while cause is not None:
        found.add(str(getattr(cause, "filename", None) or ""))  # of a SyntaxError
        trace = cause.__traceback__
        while trace is not None:
            found.add(trace.tb_frame.f_code.co_filename)
            trace = trace.tb_next
        cause = cause.__cause__
    return {file for file in found if os.path.isabs(file)}


def signature(place: str) -> list[int] | None:
    """Tell one state of a file or folder from another."""
    try:
        about = os.stat(place)
    except OSError:
        return None
    return [about.st_mtime_ns, about.st_ino, about.st_size]


class Look:
    """What a folder was like.

    Parameters
    ----------
    state : list of int, optional
        Its `signature`, where it is there.
    concerned : frozenset of str
        Those in it that count.
    """

    def __init__(self, state: list[int] | None, concerned: frozenset[str]) -> None:
        self.signature, self.concerned = state, concerned
        self.number = state[1] if state else 0
        self.lasts = state is None or state[0] < (time.time() - RECENT) * 1e9


class OwnFolders:
    """Folders in which only what hides or adds one of some modules counts.

    Parameters
    ----------
    folders : iterable of str
        Where they are.
    names : iterable
        Modules, by the first part of their names; some programs have others than text.
    """

    def __init__(self, folders: Iterable[str], names: Iterable[object]) -> None:
        every = {"sitecustomize", "usercustomize"}  # whose turn is before anybody takes notes
        words = (name for name in names if isinstance(name, str))
        self.names = frozenset({name.partition(".")[0] for name in words} | every)
        self.state = {folder: self._look(folder) for folder in folders}

    def changed(self) -> str | None:
        """Name a folder that is another one, or has another file of such a name."""
        for folder, before in self.state.items():
            if before.lasts and signature(folder) == before.signature:
                continue
            now = self._look(folder)
            if now.number != before.number or now.concerned != before.concerned:
                return folder
            self.state[folder] = now  # so that it is not listed again each time
        return None

    def _look(self, folder: str) -> Look:
        state = signature(folder)  # first: what comes meanwhile is a change
        try:
            found = os.listdir(folder)
        except OSError:
            found = []
        concerned = (
            name
            for name in found
            if name.partition(".")[0] in self.names or name.endswith(INSTALLED)
        )
        return Look(state, frozenset(concerned))


class Watch:
    """What files and folders were like: a look takes 2 microseconds for each, 0.8 ms for ipykernel.

    But for a few folders it is in two pieces of memory: after a fork, each page that is touched is
    copied.

    Parameters
    ----------
    places : list of str
        Files and folders to which every change counts.
    own : OwnFolders
        Those where it does not.
    """

    def __init__(self, places: list[str], own: OwnFolders) -> None:
        self.places, self.own = os.fsencode("\0".join(places)), own
        self.looked = 0  # when the last look began, in nanoseconds of the monotonic clock
        self.difference: str | None = None
        self.state = self.look()

    def look(self) -> bytes:
        """Give the state of all, as numbers in a row."""
        self.looked = time.monotonic_ns()
        found: list[int] = []
        for place in self.places.split(b"\0"):
            try:
                about = os.stat(place)
            except OSError:
                found += (0, 0, 0)
            else:
                found += (about.st_mtime_ns & NUMBER, about.st_ino & NUMBER, about.st_size)
        return array.array("q", found).tobytes()

    def changed(self, asked: int) -> str | None:
        """Name a place that was not as it had been when somebody asked for a kernel, or later.

        One look serves all who had asked before it, and what has changed once stays so.
        """
        if self.difference is None and self.looked <= asked:
            self.difference = self._compare(self.look()) or self.own.changed()
        return self.difference

    def _compare(self, now: bytes) -> str | None:
        if now == self.state:
            return None
        places = self.places.split(b"\0")
        size = len(now) // len(places)
        parts = (slice(at, at + size) for at in range(0, len(now), size))
        number = next(at for at, part in enumerate(parts) if now[part] != self.state[part])
        return os.fsdecode(places[number])
