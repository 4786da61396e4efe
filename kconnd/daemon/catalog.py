"""The catalog of launchable kernels: the owner's profiles and the installed kernel specs.

Each installed kernel spec also counts as a profile, so ``kconnd-ctl start python3`` works without a
profile file. A profile file takes precedence over a kernel spec of the same name, even if the file
has faults. A kernel spec whose name is not a kernel name has a derived name (`kconnd.core.names`).

The catalog stays in memory, so a look-up does not access the disk. The catalog is read again in
three cases: on a reload, after a change in the folders of profiles or kernel specs
(`kconnd.daemon.tasks.profile_reload`), and for a request with an unknown name. A folder can be on a
file server that hangs. Folders are therefore read in threads, and other requests do not wait. A
kernel spec can be removed after the last scan; a start with this spec then reports that the spec is
missing. `Catalog.version` counts the changes of the catalog. An entry is valid until
`Catalog.version` changes.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from kconnd.core.kernel.lifecycle import Policy
from kconnd.core.names import SpecNames, name_specs, parse_name, shown_spec
from kconnd.core.profile.model import Profile, instantiate
from kconnd.core.profile.policy import lifecycle_policy
from kconnd.errors import ProfileError
from kconnd.system.hung_calls import BeginStep, PathSteps, StuckError
from kconnd.system.kernelspecs import KernelspecIndex, installed_names
from kconnd.system.profiles.loader import LoadedProfiles

Scan = Callable[[BeginStep], Mapping[str, Path]]


@dataclass(frozen=True)
class CatalogEntry:
    """A profile in three forms: for the launch, the lifecycle and the record of a kernel."""

    profile: Profile

    @cached_property
    def policy(self) -> Policy:
        """The profile's rules for starts and restarts."""
        return lifecycle_policy(self.profile)

    @cached_property
    def plain(self) -> Mapping[str, Any]:
        """The profile as plain data, for a kernel's record."""
        return self.profile.model_dump(mode="json", exclude_defaults=True)


class Source:
    """The catalog entry of one kernel, cached until the catalog changes."""

    def __init__(self, catalog: "Catalog", name: str) -> None:
        self._catalog, self._name = catalog, name
        self._entry: CatalogEntry | None = None
        self._version = -1

    def __call__(self) -> CatalogEntry | None:
        """Return the entry; None if there is no profile for the kernel's name."""
        if self._version != self._catalog.version:
            self._entry, self._version = self._catalog.find(self._name), self._catalog.version
        return self._entry


class Catalog:
    """The profiles and installed kernel specs of one owner.

    Parameters
    ----------
    paths : PathSteps
        The object that uses threads to run steps that may hang.
    kernelspecs : KernelspecIndex
        The index of installed kernel specs; each scan updates the index.
    scan : callable
        A function that scans for kernel specs; by default on Jupyter's search path.
    """

    def __init__(
        self, paths: PathSteps, kernelspecs: KernelspecIndex, scan: Scan = installed_names
    ) -> None:
        self.version = 0
        self.loaded = LoadedProfiles({}, ())
        self._paths, self._kernelspecs, self._scan = paths, kernelspecs, scan
        # Entries of profile files, for the names that were looked up so far.
        self._written: dict[str, CatalogEntry] = {}
        self.spec_names = SpecNames({}, {})
        # Entries of kernel specs, by the kernel's name in lower case.
        self._installed: dict[str, CatalogEntry] = {}
        self._scans_begun = 0
        self._scanning = asyncio.Lock()

    def find(self, name: str) -> CatalogEntry | None:
        """Return the entry for a kernel's next launch; None if the name has no profile."""
        base, instance = parse_name(name)
        entry = self._find_written(base) or self._find_installed(base)
        if entry is None:
            return None
        profile = instantiate(entry.profile, instance)
        return entry if profile is entry.profile else CatalogEntry(profile)

    def _find_written(self, base: str) -> CatalogEntry | None:
        if base not in self._written and (sourced := self.loaded.profiles.get(base)):
            self._written[base] = CatalogEntry(sourced.profile)
        return self._written.get(base)

    def _find_installed(self, base: str) -> CatalogEntry | None:
        entry = self._installed.get(base.lower())
        if entry is None or base in self.loaded.first_faults:
            return None
        name, spec = entry.profile.name, entry.profile.kernel
        if name == base:
            return entry
        update = {"name": base, "kernel": base if spec == name else spec}
        return CatalogEntry(entry.profile.model_copy(update=update))

    def find_fault(self, name: str) -> ProfileError | None:
        """Return the error for a kernel whose profile has faults; None without faults."""
        base, _ = parse_name(name)
        fault = self.loaded.first_faults.get(base)
        if fault is None:
            return None
        text = replace(fault, hint="")
        return ProfileError(f"the profile of {name} has faults: {text}", hint=fault.hint)

    def find_holder(self, text: str, name: str) -> str:
        """Describe the profile or kernel spec that has the name derived for another kernel spec.

        Parameters
        ----------
        text : str
            Jupyter's name of the other kernel spec, which need not be installed.
        name : str
            The kernel name that is derived from it.

        Returns
        -------
        str
            ``""`` if the name leads to the kernel spec, or to nothing.
        """
        spec, loaded, names = text.lower(), self.loaded, self.spec_names
        sourced = loaded.profiles.get(name)
        if sourced is not None and sourced.profile.kernel.lower() != spec:
            return f"the profile in {sourced.file}"
        if fault := loaded.first_faults.get(name):
            return f"the profile in {fault.file}"
        if owner := loaded.elsewhere.get(name):
            return f"a kernel of {owner}"
        other = names.clashes.get(spec) or names.specs.get(name, spec)
        return "" if other == spec else f"the kernel spec {shown_spec(other)}"

    def installed(self) -> dict[str, Profile]:
        """Return a profile for each installed kernel spec that can be started by a name."""
        return {entry.profile.name: entry.profile for entry in self._installed.values()}

    def replace(self, loaded: LoadedProfiles) -> None:
        """Replace all profiles at once."""
        self.loaded = loaded
        self._written.clear()
        self.version += 1

    async def refresh(self) -> None:
        """Scan for installed kernel specs; calls that arrive during a scan share the next scan."""
        this_scan = self._scans_begun + 1
        async with self._scanning:
            if self._scans_begun >= this_scan:
                return
            self._scans_begun += 1
            await self._refresh()

    async def _refresh(self) -> None:
        try:
            folders = await self._paths.run(self._scan)
        except StuckError:
            return  # the last result stays valid; the next scan omits the folder that hangs
        if folders == self._kernelspecs.folders:
            return
        names = name_specs(folders)
        installed = {
            name: entry
            for name, entry in self._installed.items()
            if names.specs.get(name) == entry.profile.kernel
        }
        new = {name: spec for name, spec in names.specs.items() if name not in installed}
        self._installed = installed | await asyncio.to_thread(_entries, new)
        self._kernelspecs.folders, self.spec_names = folders, names
        self.version += 1


def _entries(specs: Mapping[str, str]) -> dict[str, CatalogEntry]:
    """Create a profile from each kernel spec, by the kernel's name."""
    return {name: CatalogEntry(Profile(name=name, kernel=spec)) for name, spec in specs.items()}
