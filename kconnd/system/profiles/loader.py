"""Load profiles from files, and report every fault with its position.

Rules.

- A fault in one profile, file or folder does not affect others.
- A file that another user can write is not read, because a profile decides which program runs.
- A file is opened once and checked by its descriptor, so that nobody can replace the file between
  the check and the read.
- The size of a file, the number of its values and the number of faults are limited.
- Before each access to a folder or file, ``begin`` is called (see `kconnd.system.hung_calls`). For
  a path that hangs, ``begin`` raises an error, which is reported as a fault.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from kconnd.core.profile.model import Profile, shared_ports
from kconnd.core.profile.parse import parse_profile
from kconnd.core.profile.problems import KeyPath, Problem, format_path, format_value
from kconnd.errors import UnsafePathError
from kconnd.system.files.trusted import check_folder, open_unblocked, read_trusted
from kconnd.system.hung_calls import BeginStep, ignore_step
from kconnd.system.machine import find_uid
from kconnd.system.profiles.faults import Fault, fault_at
from kconnd.system.profiles.yaml_with_positions import Document, NotYamlError, read_yaml

MAX_FILE_FAULTS = 100
MAX_FAULTS = 1000  # the limit for all files together


@dataclass(frozen=True)
class SourcedProfile:
    """A profile with its file and its line, counted from 1."""

    profile: Profile
    file: str
    line: int


@dataclass(frozen=True)
class LoadedProfiles:
    """The valid profiles, and the faults of the invalid profiles.

    Parameters
    ----------
    profiles : dict
        The profiles without a fault, by name.
    faults : tuple of Fault
        All faults, file by file.
    elsewhere : dict
        The user of each machine profile that belongs to another user, by profile name.
    shared : dict
        The user of each machine profile that belongs to another user but that the daemon's owner
        may see, by profile name.
    overrides : tuple of str
        One sentence for each user profile that overrides a machine profile.
    first_faults : dict
        The first fault of each faulty profile, by the profile's name, and of each faulty file, by
        the stem of the file's name.
    """

    profiles: dict[str, SourcedProfile]
    faults: tuple[Fault, ...]
    elsewhere: dict[str, str] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    first_faults: dict[str, Fault] = field(default_factory=dict)

    @property
    def faulty(self) -> int:
        """The number of profiles with faults; a file that cannot be read counts as one."""
        return len({fault.profile or fault.file for fault in self.faults})


def load_profiles(
    paths: Iterable[str | os.PathLike[str]],
    *,
    uid: int | None = None,
    missing_ok: bool = True,
    uid_of: Callable[[str], int | None] = find_uid,
    begin: BeginStep = ignore_step,
) -> LoadedProfiles:
    """Read profiles from files and folders; errors become faults.

    Parameters
    ----------
    paths : iterable of path
        Files and folders. Of a folder, the files ``*.yaml`` and ``*.yml`` are read in the order of
        their names; hidden files are not read.
    uid : int, optional
        The uid of the reader, by default that of this process. Files must belong to the reader or
        to root.
    missing_ok : bool
        Whether a missing path equals an empty folder. Otherwise, a missing path is a fault.
    uid_of : callable
        A function that returns the uid of a user name. Root is recognised by its uid and not by its
        name, because on some machines several names have uid 0.
    begin : callable
        Called with a description of each step when the step begins; it raises StuckError if
        another thread hangs at the step.
    """
    reader = _FileReader(os.geteuid() if uid is None else uid, missing_ok=missing_ok, begin=begin)
    for path in paths:
        reader.read(os.fspath(path))
    return exclude(reader.loaded(), lambda sourced: _is_roots(sourced.profile, uid_of), _root_fault)


def exclude(
    loaded: LoadedProfiles,
    is_forbidden: Callable[[SourcedProfile], bool],
    fault: Callable[[SourcedProfile], Fault],
) -> LoadedProfiles:
    """Remove forbidden profiles and add a fault for each."""
    forbidden = [sourced for sourced in loaded.profiles.values() if is_forbidden(sourced)]
    names = {sourced.profile.name for sourced in forbidden}
    faults = [fault(sourced) for sourced in forbidden]
    return replace(
        loaded,
        profiles={name: item for name, item in loaded.profiles.items() if name not in names},
        faults=(*loaded.faults, *faults),
        first_faults=_first_faults(faults) | loaded.first_faults,
    )


def fault_of(sourced: SourcedProfile, path: str, message: str, hint: str) -> Fault:
    """Create a fault at the first line of a profile."""
    name = sourced.profile.name
    return Fault(sourced.file, sourced.line, 1, path, message, hint, name)


def _first_faults(faults: Iterable[Fault]) -> dict[str, Fault]:
    """Map each faulty profile, and the stem of each faulty file, to its first fault."""
    first_faults: dict[str, Fault] = {}
    for fault in faults:
        for name in {fault.profile, Path(fault.file).stem} - {""}:
            first_faults.setdefault(name, fault)
    return first_faults


def _is_roots(profile: Profile, uid_of: Callable[[str], int | None]) -> bool:
    return bool(profile.user) and uid_of(profile.user) == 0


def _root_fault(sourced: SourcedProfile) -> Fault:
    return fault_of(
        sourced,
        "user",
        f"{format_value(sourced.profile.user)} is root, whose kernels are not shared",
        "name a user for this purpose",
    )


@dataclass(frozen=True)
class _Entry:
    """A profile of a document, before it is parsed."""

    name: str
    keys: Mapping[str, object]
    path: KeyPath

    @property
    def own_name(self) -> str:
        """The name in the profile's own keys; it may be invalid."""
        return str(self.keys.get("name", self.name))


@dataclass
class _FileReader:
    """Reads files, and compares the profiles of each file with the profiles of earlier files."""

    uid: int
    missing_ok: bool
    begin: BeginStep = ignore_step
    profiles: dict[str, SourcedProfile] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    definitions: dict[str, str] = field(default_factory=dict)  # the file and line of each name
    read_already: set[tuple[int, int, str]] = field(default_factory=set)
    first_faults: dict[str, Fault] = field(default_factory=dict)
    omitted_count: int = 0  # the number of faults beyond the limit

    def loaded(self) -> LoadedProfiles:
        """Return the profiles and faults of all files read."""
        faults = self.faults
        if self.omitted_count:
            message = f"and {self.omitted_count} more faults"
            faults = [*faults, Fault(faults[-1].file, 1, 1, "", message)]
        return LoadedProfiles(self.profiles, tuple(faults), first_faults=self.first_faults)

    def read(self, path: str) -> None:
        """Read a file, or all files of a folder."""
        with self._noting_faults(path):
            self.begin(f"reading {path}")
            try:
                with open_unblocked(path, os.O_DIRECTORY) as folder:
                    check_folder(folder, self.uid)
                    names = os.listdir(folder)  # noqa: PTH208  # Path takes no descriptor
                    for name in sorted(filter(is_profile, names)):
                        self._read_file(folder, name, str(Path(path, name)))
            except NotADirectoryError:
                with open_unblocked(str(Path(path).parent), os.O_DIRECTORY) as folder:
                    check_folder(folder, self.uid)
                    self._read_file(folder, Path(path).name, path)

    def _read_file(self, folder: int, name: str, file: str) -> None:
        """Read one file, unless it was already read by another path."""
        status = os.fstat(folder)
        key = (status.st_dev, status.st_ino, name)
        if key in self.read_already:
            return
        self.read_already.add(key)
        with self._noting_faults(file):
            self.begin(f"reading {file}")
            with open_unblocked(name, 0, folder) as descriptor:
                content = read_trusted(descriptor, self.uid)
            self.begin(f"checking {file}")
            self._add_faults(sorted(self._faults_in(read_yaml(content), file)))

    def _add_faults(self, faults: list[Fault]) -> None:
        """Add faults up to the limit; the first fault of each profile is always added."""
        for name, fault in _first_faults(faults).items():
            self.first_faults.setdefault(name, fault)
        room = max(0, min(MAX_FILE_FAULTS, MAX_FAULTS - len(self.faults)))
        self.faults += faults[:room]
        self.omitted_count += max(0, len(faults) - room)

    def _faults_in(self, document: Document, file: str) -> Iterator[Fault]:
        """Add the valid profiles of a document, and yield the faults of the invalid profiles."""
        entries, problems = _entries(document.data, Path(file).stem)
        for problem in problems:
            yield fault_at(document, file, problem)
        for mishap in document.mishaps:
            names = (entry.own_name for entry in entries if _is_below(mishap.path, entry.path))
            key, name = format_path(mishap.path), next(names, "")
            yield Fault(file, mishap.line, mishap.column, key, mishap.message, mishap.hint, name)
        mishap_paths = {mishap.path for mishap in document.mishaps}
        for entry in entries:
            profile, problems = self._parse(document, entry, file)
            for problem in problems:
                if problem.path not in mishap_paths:
                    yield fault_at(document, file, problem, entry.own_name)
            has_mishap = any(_is_below(path, entry.path) for path in mishap_paths)
            if profile and not problems and not has_mishap:
                line = document.position(entry.path).key_line
                self.profiles[profile.name] = SourcedProfile(profile, file, line)

    def _parse(
        self, document: Document, entry: _Entry, file: str
    ) -> tuple[Profile | None, list[Problem]]:
        """Parse one profile, and compare it with the profiles that were read before."""
        keys = {**entry.keys, **_env_as_written(document, entry)}
        profile, own_problems = parse_profile(keys, name=entry.name)
        problems = [_named_by_file(entry, problem) for problem in own_problems]
        source = f"{file}:{document.position(entry.path).key_line}"
        problems += self._name_problems(entry, source)
        if profile:
            problems += self._port_problems(profile)
        return profile, [replace(p, path=(*entry.path, *p.path)) for p in problems]

    def _name_problems(self, entry: _Entry, source: str) -> Iterator[Problem]:
        """Yield a problem if the name is in use, or if it differs from the key of the profile."""
        name = entry.own_name
        path = ("name",) if "name" in entry.keys else ()
        if entry.path and name != entry.name:
            message = f"{format_value(name)} is not the key above it, {format_value(entry.name)}"
            yield Problem(path, message, "remove it")
        first_source = self.definitions.setdefault(name, source)
        if first_source != source:
            message = f"the name {format_value(name)} is taken by {first_source}"
            yield Problem(path, message, "give one of them another name", on_key=not path)

    def _port_problems(self, profile: Profile) -> Iterator[Problem]:
        if not profile.ports.fixed:
            return
        for rival in self.profiles.values():
            if ports := shared_ports(profile, rival.profile):
                shown = ", ".join(map(str, ports))
                message = f"{shown}: fixed for {rival.profile.name} too ({rival.file}:{rival.line})"
                yield Problem(("ports",), message, "choose others, or a range for both")

    @contextmanager
    def _noting_faults(self, file: str) -> Iterator[None]:
        """Convert an error of reading a file or folder to a fault."""
        try:
            yield
        except NotYamlError as err:
            self._add_faults([Fault(file, err.line, err.column, "", str(err), err.hint)])
        except UnsafePathError as err:
            self._add_faults([Fault(file, 1, 1, "", err.message, err.hint)])
        except FileNotFoundError:
            if not self.missing_ok:
                self._add_faults([Fault(file, 1, 1, "", "there is no such file or folder")])
        except OSError as err:
            self._add_faults([Fault(file, 1, 1, "", f"cannot be read: {err.strerror}")])


def _entries(data: object, stem: str) -> tuple[list[_Entry], list[Problem]]:
    """Find the profiles in a document: the whole document, or the entries of ``kernels``."""
    if data is None:
        return [], [Problem((), "the file is empty", "write kernel: python3, or remove it")]
    if not isinstance(data, dict):
        return [], [Problem((), f"{format_value(data)} is not a mapping", "write kernel: python3")]
    if "kernels" not in data:
        return [_Entry(stem, data, ())], []
    kernels = data["kernels"]
    hint = "move it to a kernel's own keys"
    problems = [
        Problem((key,), "cannot stand beside kernels", hint, on_key=True)
        for key in data
        if key != "kernels"
    ]
    if not isinstance(kernels, dict) or not kernels:
        hint = "write one 'NAME:' a line and below it that kernel's keys"
        return [], [*problems, Problem(("kernels",), "needs a mapping of kernels by name", hint)]
    entries = []
    for name, keys in kernels.items():
        path = ("kernels", name)
        if not isinstance(keys, dict):
            problems.append(Problem(path, f"{format_value(keys)} is not a profile", "give it keys"))
            continue
        entries.append(_Entry(name, keys, path))
    return entries, problems


def _env_as_written(document: Document, entry: _Entry) -> dict[str, object]:
    """Return ``env`` with each number as the text that the file contains, such as ``3.10``."""
    env = entry.keys.get("env")
    if not isinstance(env, dict):
        return {}
    written = {}
    for key, value in env.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        position = document.position((*entry.path, "env", key))
        written[key] = position.text if is_number else value
    return {"env": written}


def _named_by_file(entry: _Entry, problem: Problem) -> Problem:
    """Explain that an invalid name comes from the file's name, if no key contains it."""
    if problem.path != ("name",) or "name" in entry.keys:
        return problem
    hint = problem.hint if entry.path else "rename the file, or give it a key name"
    return replace(problem, path=(), hint=hint, on_key=True)


def _is_below(path: KeyPath, profile: KeyPath) -> bool:
    """Check whether a path is inside a profile.

    The profile's own path does not count as inside. An error with this path means that the name is
    defined a second time; the first definition is still valid.
    """
    is_inside = len(path) > len(profile) or not profile
    return path[: len(profile)] == profile and is_inside


def is_profile(name: str) -> bool:
    """Check by the name of a file in a folder whether the file contains profiles."""
    return name.endswith((".yaml", ".yml")) and not name.startswith(".")
