"""Finds what a reader of a profile takes for something else than the daemon does.

The daemon reads ``*.yaml`` and ``*.yml`` of its folders, and no hidden files (`loader.is_profile`).
A file with a similar name is not read, without a fault. A number with a leading zero is octal in
YAML 1.1, without a fault either.
"""

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from kconnd.core.paths import SYSTEM_CONFIGS_DIR
from kconnd.core.profile.problems import KeyPath, Problem
from kconnd.system.hung_calls import BeginStep
from kconnd.system.profiles.faults import Fault
from kconnd.system.profiles.loader import is_profile

_SIMILAR = re.compile(r"\.?[^.#].*\.ya?ml(\.txt)?", re.IGNORECASE)
_OCTAL = re.compile(r"[-+]?0[0-7_]*[0-7]")


def find_overlooked(folder: str, begin: BeginStep) -> list[Fault]:
    """Return a warning for each file in a folder that looks like a profile and is not read.

    Parameters
    ----------
    folder : str
        A folder of profiles; for a file, the result is empty.
    begin : callable
        Called with a description of each step when the step begins.
    """
    begin(f"reading {folder}")
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208  # names suffice
    except OSError:  # a missing folder, a file, or a fault that the loader reports
        return []
    warnings = []
    for name in names:
        path = Path(folder, name)
        begin(f"looking at {path}")
        if reason := _reason(path, name):
            warnings.append(Fault(str(path), 1, 1, "", *reason))
    return warnings


def _reason(path: Path, name: str) -> tuple[str, str] | None:
    """Return why a file or folder is not read, and what to do; None if it is, or need not be."""
    try:
        status = path.stat()
    except OSError as error:
        return _link_reason(name, error)
    if stat.S_ISDIR(status.st_mode):
        return _folder_reason(path)
    if is_profile(name):
        return _mode_reason(path, status)
    return _name_reason(name) if _SIMILAR.fullmatch(name) else None


def _name_reason(name: str) -> tuple[str, str]:
    stem = re.sub(r"(?i)\.ya?ml(\.txt)?$", "", name.lstrip("."))
    return (
        "it is not read, because its name is hidden or does not end in .yaml or .yml",
        f"rename it to {stem}.yaml",
    )


def _link_reason(name: str, error: OSError) -> tuple[str, str] | None:
    if not is_profile(name) or not isinstance(error, FileNotFoundError):
        return None
    return "it is a link that leads to no file, so no profile is read", "correct or remove it"


def _folder_reason(path: Path) -> tuple[str, str] | None:
    try:
        has_profiles = any(map(is_profile, os.listdir(path)))  # noqa: PTH208  # names suffice
    except OSError:
        return None
    if not has_profiles or path.name.startswith("."):
        return None
    return "the profiles in this folder are not read", f"move them to {path.parent}"


def _mode_reason(path: Path, status: os.stat_result) -> tuple[str, str] | None:
    """Return why users' daemons cannot read a profile of the machine, which root can."""
    if str(path.parent) != SYSTEM_CONFIGS_DIR or status.st_mode & stat.S_IROTH:
        return None
    mode = stat.S_IMODE(status.st_mode)
    return f"the daemons of users cannot read it (mode {mode:04o})", f"chmod o+r {path}"


def find_misread_numbers(values: Iterable[tuple[KeyPath, str, object]]) -> list[Problem]:
    """Return a problem for each number that YAML reads as octal because of its leading zero.

    Parameters
    ----------
    values : iterable of tuple
        The path of each scalar of a profile, its text, and its value.
    """
    return [
        Problem(
            path,
            f"{text} is the octal number {value} in YAML",
            f"write {value}, or the number without the leading zero",
        )
        for path, text, value in values
        # The values of env are used as they are written.
        if path[:1] != ("env",) and isinstance(value, int) and _OCTAL.fullmatch(text)
    ]
