"""Read profiles from YAML files, with every fault of every file at once and its place.

Rules. A file with faults never keeps others from working, nor the good profiles in it. A
fault says where (line and column from 1), what is wrong with which value, and what to do. A
file is read only if no other user can have written it; it is opened once and checked then.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from kconnd.core.profile import Profile
from kconnd.system.faults import Fault, Place, explain
from kconnd.system.yaml_places import Document, YamlFault, parse_yaml

MAX_SIZE = 1 << 20  # bytes of one file
ENDINGS = frozenset({".yaml", ".yml"})


@dataclass(frozen=True)
class SourcedProfile:
    """A profile and where it stands."""

    profile: Profile
    file: Path
    line: int
    column: int = 1


@dataclass(frozen=True)
class Loaded:
    """What was read: the profiles that are right, and all faults."""

    profiles: dict[str, SourcedProfile]
    faults: tuple[Fault, ...]


def load_profiles(paths: Iterable[Path]) -> Loaded:
    """Read all profiles of some folders and files.

    Parameters
    ----------
    paths : iterable of Path
        A folder stands for its ``*.yaml`` and ``*.yml`` files that are not hidden, by name;
        one that does not exist is empty.
    """
    profiles: dict[str, SourcedProfile] = {}
    faults: list[Fault] = []
    for path in paths:
        for file in _files(path):
            found = list(_read_file(file))
            wrong = [one for one in found if isinstance(one, Fault)]
            for right in (one for one in found if isinstance(one, SourcedProfile)):
                if clash := _clash(right, profiles):
                    wrong.append(clash)
                else:
                    profiles[right.profile.name] = right
            faults += sorted(wrong, key=lambda fault: (fault.place.line, fault.place.column))
    return Loaded(profiles, tuple(faults))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path] if path.exists() else []
    hidden = (".", "#")
    return sorted(
        file
        for file in path.iterdir()
        if file.suffix in ENDINGS and not file.name.startswith(hidden)
    )


def _clash(new: SourcedProfile, known: dict[str, SourcedProfile]) -> Fault | None:
    """Find what a profile takes from one before it: its name, or fixed ports."""
    name, place = new.profile.name, Place(str(new.file), new.line, new.column)
    if name in known:
        first = known[name]
        message = f"{name!r} is already the name of a profile at {first.file}:{first.line}"
        return Fault(place, name, "name", message, "give one of them another name")
    for other in known.values():
        same = sorted(set(new.profile.ports.fixed) & set(other.profile.ports.fixed))
        if same:
            ports = ", ".join(map(str, same))
            message = f"{ports} belongs to {other.profile.name} at {other.file}:{other.line}"
            return Fault(place, name, "ports", message, "use other ports, or auto")
    return None


def _read_file(file: Path) -> Iterator[SourcedProfile | Fault]:
    start = Place(str(file), 1, 1)
    try:
        document = parse_yaml(_read_text(file))
    except YamlFault as error:
        yield Fault(Place(str(file), error.line, error.column), "", "", str(error), error.hint)
        return
    except OSError as error:
        hint = "make it readable for the daemon's user"
        yield Fault(start, "", "", f"it cannot be read: {error.strerror}", hint)
        return
    except ValueError as error:
        yield Fault(start, "", "", str(error), "")
        return
    for fault in document.faults:
        yield Fault(Place(str(file), fault.line, fault.column), "", "", str(fault), fault.hint)
    yield from _read_document(file, document)


def _read_text(file: Path) -> str:
    """Read a file that only its owner, us or root, can have written.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or should not be.
    """
    opened = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(opened, "rb") as stream:
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is not a regular file")
        if found.st_uid not in {os.geteuid(), 0} or found.st_mode & stat.S_IWOTH:
            raise ValueError(
                f"others can write it (uid {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}),"
                " so it is not used: chown it to yourself and chmod o-w"
            )
        content = stream.read(MAX_SIZE + 1)
    if len(content) > MAX_SIZE:
        raise ValueError(f"it is larger than {MAX_SIZE} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text (byte {error.start})") from None


def _read_document(file: Path, document: Document) -> Iterator[SourcedProfile | Fault]:
    content = document.content
    if not isinstance(content, dict):
        what = "it is empty" if content is None else "it is not a mapping"
        hint = "write keys such as 'kernel: python3', or 'kernels:' with several profiles"
        yield Fault(Place(str(file), 1, 1), "", "", what, hint)
        return
    if "kernels" not in content:
        yield from _read_profile(file, document, (), file.stem)
        return
    for key in content.keys() - {"kernels"}:
        line, column = document.key_places[(key,)]
        hint = "put it into a profile below 'kernels'"
        place = Place(str(file), line, column)
        yield Fault(place, "", str(key), "it stands beside 'kernels'", hint)
    several = content["kernels"]
    if not isinstance(several, dict):
        line, column = document.places[("kernels",)]
        message = "it is not a mapping of names to profiles"
        yield Fault(Place(str(file), line, column), "", "kernels", message, "")
        return
    for name in several:
        yield from _read_profile(file, document, ("kernels", name), name)


def _read_profile(
    file: Path, document: Document, path: tuple[Any, ...], name: str
) -> Iterator[SourcedProfile | Fault]:
    content = document.content
    for key in path:
        content = content[key]
    line, column = document.key_places.get(path) or document.places[path]
    place = Place(str(file), line, column)
    if not isinstance(content, dict):
        yield Fault(place, name, name, "it is not a mapping", "write keys such as 'kernel: ...'")
        return
    if path and content.get("name", name) != name:
        message = f"{content['name']!r} is not the name it stands under, {name!r}"
        yield Fault(place, name, "name", message, "remove 'name'")
        return
    if any(fault.path[: len(path)] == path for fault in document.faults):
        return  # its keys are not clear, so what it means is not either
    try:
        profile = Profile.model_validate({"name": name, **content})
    except ValidationError as error:
        for detail in (*error.errors(), *_further(name, content, error)):
            yield explain(str(file), document, path, str(content.get("name", name)), detail)
    else:
        yield SourcedProfile(profile, file, line, column)


def _further(name: str, content: dict[str, Any], error: ValidationError) -> Iterator[ErrorDetails]:
    """Find what is wrong only together, which pydantic does not look at while a key is wrong."""
    wrong = {detail["loc"][0] for detail in error.errors() if detail["loc"]}
    right = {key: value for key, value in content.items() if key not in wrong}
    if not right.keys() & {"kernel", "python", "argv"}:
        right["kernel"] = "any"  # it may be one of the wrong keys
    if wrong:
        try:
            Profile.model_validate({**right, "name": name if "name" not in wrong else "any"})
        except ValidationError as more:
            yield from more.errors()
