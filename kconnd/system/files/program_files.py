"""Looks up the files that a search for a program needs (`kconnd.core.launch.program_search`).

The paths come from the owner's ``PATH`` and from kernel specs. Each look-up is a step that may hang
(see `kconnd.system.hung_calls`). A path that cannot be accessed counts as missing.
"""

import os

from kconnd.system.files.regular import open_regular
from kconnd.system.hung_calls import BeginStep

# An installed script names its interpreter in the first or the second line; a path has 4096 bytes.
HEAD_BYTES = 8192


class ProgramFiles:
    """Look-ups of programs, for the user who runs this process.

    Parameters
    ----------
    begin : callable
        Called with a description of each step when the step begins.
    """

    def __init__(self, begin: BeginStep) -> None:
        self._begin = begin

    def is_executable(self, path: str) -> bool:
        """Return whether a path leads to a file that the user can execute."""
        self._begin(f"looking for its program {path}")
        try:
            return os.path.isfile(path) and os.access(path, os.X_OK)  # noqa: PTH113  # a text
        except ValueError:  # a NUL character
            return False

    def exists(self, path: str) -> bool:
        """Return whether a path leads to anything, also a link to a missing file."""
        self._begin(f"looking for its program {path}")
        return os.path.lexists(path)

    def resolve(self, path: str) -> str:
        """Return a path without symbolic links."""
        self._begin(f"following the links of {path}")
        return os.path.realpath(path)

    def read_head(self, path: str) -> str:
        """Return the beginning of a file; ``""`` if it cannot be read."""
        self._begin(f"reading {path}")
        try:
            with open(open_regular(path), "rb") as stream:  # noqa: PTH123  # a descriptor
                return os.fsdecode(stream.read(HEAD_BYTES))
        except (OSError, ValueError):
            return ""
