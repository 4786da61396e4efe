"""Which kernel specs are installed, as of the last look; each of them is a profile by itself.

Rules. A look scans the folders of Jupyter's search path, in a thread, and any of them may hang: so
no request waits for one, but for one that names what is not known. It is looked up again when
profiles are read, when somebody asks for an unknown name, and every `ROUND_S` seconds. That a
spec has gone since is noticed at the latest by the start that reads it.
"""

import asyncio
from collections.abc import Callable, Iterable

from kconnd.core.profile.model import Profile
from kconnd.system.hung_calls import BeginStep, PathSteps, StuckError
from kconnd.system.kernelspecs import installed_names

ROUND_S = 30.0

Scan = Callable[[BeginStep], Iterable[str]]


class Catalog:
    """The names of installed kernel specs.

    Parameters
    ----------
    paths : PathSteps
        Runs what may hang.
    scan : callable
        Gives all names in lower case; by default it looks where Jupyter does.
    """

    def __init__(self, paths: PathSteps, scan: Scan = installed_names) -> None:
        self._paths, self._scan = paths, scan
        self._names: frozenset[str] = frozenset()
        self._profiles: dict[str, Profile] = {}
        self._begun = 0
        self._scanning = asyncio.Lock()

    def profile(self, name: str) -> Profile | None:
        """Give the profile that a kernel spec is; None where none of that name is installed."""
        if name.lower() not in self._names:
            return None
        if name not in self._profiles:
            self._profiles[name] = Profile(name=name, kernel=name)
        return self._profiles[name]

    async def look(self) -> None:
        """Look which there are; those who ask while one looks share the next look."""
        wanted = self._begun + 1
        async with self._scanning:
            if self._begun >= wanted:
                return
            self._begun += 1
            await self._look()

    async def look_for_ever(self) -> None:
        """Look once in a while."""
        while True:
            await asyncio.sleep(ROUND_S)  # nobody tells what is installed or removed
            await self.look()

    async def _look(self) -> None:
        try:
            names = frozenset(await self._paths.run(self._scan))
        except StuckError:
            return  # what was known holds, and the next look leaves out what hangs
        if names != self._names:
            self._names = names
            self._profiles.clear()
