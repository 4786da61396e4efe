"""Profiles from files: every fault of every file with its place, and all profiles without one.

Rules: a fault in one profile, file or folder takes nothing else with it; a file that somebody
else could have written is not read, since a profile says what to run; a file is opened once
and judged by its descriptor, so that it cannot be exchanged in between. Size, number of values and
number of faults are bounded. Each folder and file is announced to ``begin`` first (see
`kconnd.system.hung_calls`), which raises for one that hangs: that is a fault of it like any other.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from kconnd.core.profile.model import Access, Profile, shared_ports
from kconnd.core.profile.parse import parse_profile
from kconnd.core.profile.problems import Path as KeyPath
from kconnd.core.profile.problems import Problem, dotted, show
from kconnd.errors import UnsafePathError
from kconnd.system.files.trusted import check_folder, open_unblocked, read_trusted
from kconnd.system.hung_calls import BeginStep, ignore_step
from kconnd.system.machine import find_uid
from kconnd.system.profiles.yaml_with_positions import Document, NotYamlError, read_yaml

MAX_FILE_FAULTS = 100
MAX_FAULTS = 1000  # of all files together


@dataclass(frozen=True, order=True)
class Fault:
    """One thing wrong in one file; as text it is ``lab.yaml:7:12: restart.policy: …``.

    Parameters
    ----------
    file : str
        The path, as it was asked for.
    line, column : int
        Where, from 1; 1 and 1 for a file as a whole.
    path : str
        The key, as ``restart.policy``, or ``""``.
    message, hint : str
        What is wrong, and what to write instead (or ``""``).
    profile : str
        The name of the profile that is left out for it, so that a reload can tell a profile
        with a fault from one that is gone; ``""`` if the file as a whole is at fault.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str = ""
    profile: str = ""

    def __str__(self) -> str:
        key = f"{self.path}: " if self.path else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{self.file}:{self.line}:{self.column}: {key}{self.message}{hint}"


@dataclass(frozen=True)
class SourcedProfile:
    """A profile and where it stands; ``line`` counts from 1."""

    profile: Profile
    file: str
    line: int


@dataclass(frozen=True)
class Loaded:
    """What profiles there are, and what is wrong with others.

    Parameters
    ----------
    profiles : dict
        Those without a fault, by name.
    faults : tuple of Fault
        File by file.
    elsewhere : dict
        Profiles of the whole machine that one other user's kernel is made from: name to user.
    hidden : tuple of str
        Which of our own hides one of the whole machine, a sentence each.
    spoiled : dict
        The first fault of each profile that has any, and of each file, by its name without ending.
    """

    profiles: dict[str, SourcedProfile]
    faults: tuple[Fault, ...]
    elsewhere: dict[str, str] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    spoiled: dict[str, Fault] = field(default_factory=dict)


def load_profiles(
    paths: Iterable[str | os.PathLike[str]],
    *,
    uid: int | None = None,
    missing_ok: bool = True,
    uid_of: Callable[[str], int | None] = find_uid,
    begin: BeginStep = ignore_step,
) -> Loaded:
    """Read profiles from files and folders.

    Parameters
    ----------
    paths : iterable of path
        Files, and folders whose ``*.yaml`` and ``*.yml`` are read in the order of their names,
        hidden ones aside.
    uid : int, optional
        The user who reads; files have to be theirs or root's. By default the process's.
    missing_ok : bool
        Whether a path that does not exist is like an empty folder; otherwise it is a fault.
    uid_of : callable
        Gives the uid of a user by name: root has other names than that on some machines.
    begin : callable
        Gets each step, and raises StuckError for one that hangs.

    Returns
    -------
    Loaded
        What can be used, and what is wrong. Nothing is raised.
    """
    reader = _Reader(os.geteuid() if uid is None else uid, missing_ok=missing_ok, begin=begin)
    for path in paths:
        reader.read(os.fspath(path))
    return _without(reader.loaded(), lambda one: _is_roots(one.profile, uid_of), _of_root)


def _without(
    loaded: Loaded, bad: Callable[[SourcedProfile], bool], told: Callable[[SourcedProfile], Fault]
) -> Loaded:
    """Take out profiles that may not be, with a fault for each."""
    out = [one for one in loaded.profiles.values() if bad(one)]
    names = {one.profile.name for one in out}
    faults = [told(one) for one in out]
    return replace(
        loaded,
        profiles={name: one for name, one in loaded.profiles.items() if name not in names},
        faults=(*loaded.faults, *faults),
        spoiled=_first_faults(faults) | loaded.spoiled,
    )


def _first_faults(faults: Iterable[Fault]) -> dict[str, Fault]:
    """Give the first fault of each profile and of each file."""
    found: dict[str, Fault] = {}
    for fault in faults:
        for name in {fault.profile, Path(fault.file).stem} - {""}:
            found.setdefault(name, fault)
    return found


def load_machine(paths: Iterable[str | os.PathLike[str]], begin: BeginStep = ignore_step) -> Loaded:
    """Read the profiles of the whole machine, where what is shared needs a user to run as.

    Without one, each user's own kernel of that name would be open to others by somebody
    else's word.
    """
    loaded = load_profiles(paths, uid=0, begin=begin)
    return _without(loaded, lambda one: _opens_everybodys(one.profile), _nobodys)


def load_tiers(
    system: Iterable[str | os.PathLike[str]],
    own: Iterable[str | os.PathLike[str]],
    *,
    uid: int,
    user: str,
    begin: BeginStep = ignore_step,
) -> Loaded:
    """Read the profiles of the whole machine, and a user's own, which go before them.

    Parameters
    ----------
    system : iterable of path
        What is there has to be root's, and nobody else's to write.
    own : iterable of path
        As `load_profiles` takes it.
    uid, user : int and str
        Whose daemon this is. A profile of the machine that names another user is theirs.
    begin : callable
        As `load_profiles` takes it.
    """
    machine = load_machine(system, begin)
    mine = _without(
        load_profiles(own, uid=uid, begin=begin),
        lambda one: one.profile.user not in {"", user},
        _not_ours,
    )
    theirs = {
        name: found.profile.user
        for name, found in machine.profiles.items()
        if found.profile.user not in {"", user}
    }
    usable = mine.profiles
    return Loaded(
        {name: one for name, one in machine.profiles.items() if name not in theirs} | usable,
        (*machine.faults, *mine.faults),
        {name: owner for name, owner in theirs.items() if name not in usable},
        spoiled=mine.spoiled | machine.spoiled,
        hidden=tuple(
            f"{one.file}:{one.line}: {name} hides {other.file}:{other.line}, which all users have"
            for name, one in usable.items()
            if (other := machine.profiles.get(name))
        ),
    )


def _is_roots(profile: Profile, uid_of: Callable[[str], int | None]) -> bool:
    return bool(profile.user) and uid_of(profile.user) == 0


def _opens_everybodys(profile: Profile) -> bool:
    return not profile.user and profile.access != Access()


def _of_root(found: SourcedProfile) -> Fault:
    return Fault(
        found.file,
        found.line,
        1,
        "user",
        f"{show(found.profile.user)} is root, whose kernels are not shared",
        "name a user for this purpose",
        found.profile.name,
    )


def _nobodys(found: SourcedProfile) -> Fault:
    return Fault(
        found.file,
        found.line,
        1,
        "access",
        "it would open every user's own kernel of this name to others",
        "say with 'user: NAME' whose one kernel it is that is shared, or drop access",
        found.profile.name,
    )


def _not_ours(found: SourcedProfile) -> Fault:
    return Fault(
        found.file,
        found.line,
        1,
        "user",
        f"{show(found.profile.user)} is somebody else",
        "only a profile of the whole machine can name another user",
        found.profile.name,
    )


@dataclass(frozen=True)
class _Entry:
    """One profile of a document, not yet looked at."""

    name: str
    given: Mapping[str, object]
    path: KeyPath

    @property
    def called(self) -> str:
        """The name it gives itself, sound or not."""
        return str(self.given.get("name", self.name))


@dataclass
class _Reader:
    """What has been read so far: later files are compared with earlier ones."""

    uid: int
    missing_ok: bool
    begin: BeginStep = ignore_step
    profiles: dict[str, SourcedProfile] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    first: dict[str, str] = field(default_factory=dict)
    read_already: set[tuple[int, int, str]] = field(default_factory=set)
    spoiled: dict[str, Fault] = field(default_factory=dict)
    left_out: int = 0  # faults that are not told, for being too many

    def loaded(self) -> Loaded:
        """Give what has been read."""
        more = []
        if self.left_out:
            more = [Fault(self.faults[-1].file, 1, 1, "", f"and {self.left_out} more faults")]
        return Loaded(self.profiles, (*self.faults, *more), spoiled=self.spoiled)

    def read(self, path: str) -> None:
        """Read a file, or all files of a folder."""
        with self._faults_at(path):
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
        """Read one file, unless an earlier path led to it."""
        about = os.fstat(folder)
        key = (about.st_dev, about.st_ino, name)
        if key in self.read_already:
            return
        self.read_already.add(key)
        with self._faults_at(file):
            self.begin(f"reading {file}")
            with open_unblocked(name, 0, folder) as fd:
                content = read_trusted(fd, self.uid)
            self.begin(f"checking {file}")
            self._tell(sorted(self._faults_in(read_yaml(content), file)))

    def _tell(self, faults: list[Fault]) -> None:
        """Keep faults, of those that are too many the first of each profile."""
        for name, fault in _first_faults(faults).items():
            self.spoiled.setdefault(name, fault)
        room = max(0, min(MAX_FILE_FAULTS, MAX_FAULTS - len(self.faults)))
        self.faults += faults[:room]
        self.left_out += max(0, len(faults) - room)

    def _faults_in(self, document: Document, file: str) -> Iterator[Fault]:
        """Take the sound profiles of a document, and tell what is wrong with the others."""
        entries, problems = _entries(document.data, Path(file).stem)
        for problem in problems:
            yield fault_at(document, file, problem)
        for mishap in document.mishaps:
            inside = (entry.called for entry in entries if _is_below(mishap.path, entry.path))
            key, name = dotted(mishap.path), next(inside, "")
            yield Fault(file, mishap.line, mishap.column, key, mishap.message, mishap.hint, name)
        broken = {mishap.path for mishap in document.mishaps}
        for entry in entries:
            profile, found = self._parsed(document, entry, file)
            told = (problem for problem in found if problem.path not in broken)
            yield from (fault_at(document, file, problem, entry.called) for problem in told)
            in_it = any(_is_below(path, entry.path) for path in broken)
            if profile and not found and not in_it:
                line = document.place(entry.path).key_line
                self.profiles[profile.name] = SourcedProfile(profile, file, line)

    def _parsed(
        self, document: Document, entry: _Entry, file: str
    ) -> tuple[Profile | None, list[Problem]]:
        """Check one profile on its own and against those before it."""
        given = {**entry.given, **_env_as_written(document, entry)}
        profile, found = parse_profile(given, name=entry.name)
        problems = [_named_by_file(entry, problem) for problem in found]
        here = f"{file}:{document.place(entry.path).key_line}"
        problems += self._name_faults(entry, here)
        if profile:
            problems += self._port_clashes(profile)
        return profile, [replace(p, path=(*entry.path, *p.path)) for p in problems]

    def _name_faults(self, entry: _Entry, here: str) -> Iterator[Problem]:
        """Tell of a name that another profile has, and of one that is not the key above it."""
        name = entry.called
        path = ("name",) if "name" in entry.given else ()
        if entry.path and name != entry.name:
            yield Problem(
                path, f"{show(name)} is not the key above it, {show(entry.name)}", "drop it"
            )
        first = self.first.setdefault(name, here)
        if first != here:
            message = f"the name {show(name)} is taken by {first}"
            yield Problem(path, message, "give one of them another name", on_key=not path)

    def _port_clashes(self, profile: Profile) -> Iterator[Problem]:
        if not profile.ports.fixed:
            return
        for other in self.profiles.values():
            if ports := shared_ports(profile, other.profile):
                shown = ", ".join(map(str, ports))
                message = f"{shown}: fixed for {other.profile.name} too ({other.file}:{other.line})"
                yield Problem(("ports",), message, "choose others, or a range for both")

    @contextmanager
    def _faults_at(self, file: str) -> Iterator[None]:
        """Note why a file or folder could not be read, and go on."""
        try:
            yield
        except NotYamlError as err:
            self._tell([Fault(file, err.line, err.column, "", str(err), err.hint)])
        except UnsafePathError as err:
            self._tell([Fault(file, 1, 1, "", err.message, err.hint)])
        except FileNotFoundError:
            if not self.missing_ok:
                self._tell([Fault(file, 1, 1, "", "there is no such file or folder")])
        except OSError as err:
            self._tell([Fault(file, 1, 1, "", f"cannot be read: {err.strerror}")])


def _entries(data: object, stem: str) -> tuple[list[_Entry], list[Problem]]:
    """Find the profiles in a document: the whole of it, or what is under ``kernels``."""
    if data is None:
        return [], [Problem((), "the file is empty", "write kernel: python3, or remove it")]
    if not isinstance(data, dict):
        return [], [Problem((), f"{show(data)} is not a mapping", "write kernel: python3")]
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
    for name, given in kernels.items():
        path = ("kernels", name)
        if not isinstance(given, dict):
            problems.append(Problem(path, f"{show(given)} is not a profile", "give it keys"))
            continue
        entries.append(_Entry(name, given, path))
    return entries, problems


def _env_as_written(document: Document, entry: _Entry) -> dict[str, object]:
    """Take the numbers in ``env`` as they stand: 3.10 is not 3.1, and 007 not 7."""
    env = entry.given.get("env")
    if not isinstance(env, dict):
        return {}
    written = {}
    for key, value in env.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        place = document.place((*entry.path, "env", key))
        written[key] = place.text if number else value
    return {"env": written}


def _named_by_file(entry: _Entry, problem: Problem) -> Problem:
    """Say where a bad name comes from, if no key holds it."""
    if problem.path != ("name",) or "name" in entry.given:
        return problem
    hint = problem.hint if entry.path else "rename the file, or give it a key name"
    return replace(problem, path=(), hint=hint, on_key=True)


def fault_at(document: Document, file: str, problem: Problem, profile: str = "") -> Fault:
    """Say where in a file a problem stands."""
    place = document.place(problem.path)
    on_key = problem.on_key and problem.path in document.places
    line, column = (place.key_line, place.key_column) if on_key else (place.line, place.column)
    key = dotted(problem.path)
    return Fault(file, line, column, key, problem.message, problem.hint, profile)


def _is_below(path: KeyPath, top: KeyPath) -> bool:
    """Tell whether a mishap is within a profile; a name given twice spoils only the second."""
    return path[: len(top)] == top and (len(path) > len(top) or not top)


def is_profile(name: str) -> bool:
    """Tell whether a file of a folder is read, by its name."""
    return name.endswith((".yaml", ".yml")) and not name.startswith(".")
