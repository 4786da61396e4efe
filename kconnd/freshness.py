"""Freshness: whether a zygote still has what a process begun now would import.

What is watched is where modules are found, and the files of those that were imported, but for
the standard library's: another one of that comes with another interpreter, which is watched.

Rules. Standard library only, as for `kconnd.zygote`, which loads it. A look costs no more than
a stat(2) for each place, since a start waits for it. What differs is named: it may be why a
kernel was not forked.
"""

from __future__ import annotations

import array
import contextlib
import os
import sys
import time

TYPE_CHECKING = False  # typing is not needed at run time
if TYPE_CHECKING:
    from collections.abc import Iterable

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


def watched() -> list[str]:
    """List what a fresh process might import otherwise: where from, and all but the library."""
    library = os.path.dirname(os.__file__)
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    own = [file for file in files if file and (PACKAGES in file or not file.startswith(library))]
    return [*watched_folders(), *sorted(own)]


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


class Watch:
    """What files and folders were like: a look takes 2 microseconds for each, 0.8 ms for ipykernel.

    It is kept in two pieces of memory: after a fork, each page that is touched is copied.
    """

    def __init__(self, places: list[str]) -> None:
        self.places = os.fsencode("\0".join(places))
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
            self.difference = self._compare(self.look())
        return self.difference

    def _compare(self, now: bytes) -> str | None:
        if now == self.state:
            return None
        places = self.places.split(b"\0")
        size = len(now) // len(places)
        parts = (slice(at, at + size) for at in range(0, len(now), size))
        number = next(at for at, part in enumerate(parts) if now[part] != self.state[part])
        return os.fsdecode(places[number])
