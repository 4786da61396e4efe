"""Find the kernel specs that a user has installed.

The search path is Jupyter's (`jupyter_core.paths`). A kernel spec is a folder with a JSON file.
In the command of an installed kernel spec, ``{prefix}``, ``{resource_dir}`` and ``~`` are replaced
while the spec is read, as Jupyter does at each launch; ``{connection_file}`` stays. In Jupyter,
``{prefix}`` is the environment of the program that starts the kernel. kconnd uses the environment
in which the spec is installed. The user's data folder belongs to no environment: for a spec in this
folder, the caller looks for the environment of the owner's Jupyter.

A folder can have any name, with line feeds and escape sequences in it. Jupyter's name of a kernel
spec is the folder's name in lower case; in the name that this module returns, bytes that are not
UTF-8 are replaced by escapes. Messages contain escaped names and paths (`kconnd.core.names`).

This module does not import jupyter_client, because the import would cost the daemon 15 MB. A folder
of the search path can be on a file server that hangs, so this module calls ``begin`` before each
access (see `kconnd.system.hung_calls`). A file in such a folder can have any type and size. This
module reads regular files of a limited size and no other files.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from jupyter_core.paths import jupyter_data_dir, jupyter_path

from kconnd.core.launch.json_position import find_position
from kconnd.core.launch.kernelspec_checks import KernelspecError
from kconnd.core.launch.kernelspec_file import (
    PREFIX,
    KernelSpec,
    fill_in,
    ipykernel_spec,
    parse_kernelspec,
)
from kconnd.core.names import name_specs, shown_spec
from kconnd.errors import StartFailedError
from kconnd.system.files.regular import read_regular
from kconnd.system.hung_calls import BeginStep, StuckError, ignore_step

MAX_KERNELSPEC_BYTES = 1 << 20


def search_path() -> list[Path]:
    """Return the folders in which Jupyter looks for kernel specs; a folder may be missing."""
    return [Path(folder) for folder in jupyter_path("kernels")]


def installed_names(
    begin: BeginStep = ignore_step,
    stuck: list[StuckError] | None = None,
    roots: Sequence[Path] | None = None,
) -> dict[str, Path]:
    """Return the folders of the installed kernel specs by name in lower case.

    If several kernel specs have the same name, the first on the search path wins.

    Parameters
    ----------
    begin : callable
        Called with a description of each step when the step begins.
    stuck : list, optional
        A list that receives the error of each folder that hangs. The specs of such a folder are not
        listed.
    roots : sequence of Path, optional
        The folders to look in; by default those of `search_path`.
    """
    folders: dict[str, Path] = {}
    for root in search_path() if roots is None else roots:
        try:
            begin(f"looking for kernel specs in {root}")
            spec_folders = [folder for folder in sorted(root.iterdir()) if _has_spec(folder)]
        except StuckError as error:
            if stuck is not None:
                stuck.append(error)
            continue
        except OSError:
            continue
        for folder in spec_folders:
            folders.setdefault(_name_of(folder), folder)
    return folders


def _name_of(folder: Path) -> str:
    """Return Jupyter's name of a kernel spec, as text that can be encoded in UTF-8."""
    return folder.name.lower().encode("utf-8", "backslashreplace").decode()


def find_by_name(folders: Mapping[str, Path], name: str) -> Path | None:
    """Find the folder of a kernel spec by Jupyter's name, or by the name that is derived from it.

    Parameters
    ----------
    folders : mapping
        The folders of the installed kernel specs by Jupyter's name.
    name : str
        The name in any case.
    """
    if folder := folders.get(name.lower()):
        return folder
    return folders.get(name_specs(folders).specs.get(name.lower(), ""))


def _has_spec(folder: Path) -> bool:
    """Check whether a folder contains a kernel spec that kconnd did not publish itself."""
    is_published = folder.name.lower().startswith(PREFIX)
    return not is_published and (folder / "kernel.json").is_file()


class KernelspecIndex:
    """The folders of installed kernel specs as of the last scan, by Jupyter's name.

    Parameters
    ----------
    roots : sequence of Path, optional
        The folders to look in; by default those of `search_path`.
    """

    folders: Mapping[str, Path]

    def __init__(self, roots: Sequence[Path] | None = None) -> None:
        self.folders = {}
        self._roots = roots

    def read(
        self,
        name: str,
        begin: BeginStep = ignore_step,
        find_prefix: Callable[[], str] = str,
    ) -> KernelSpec:
        """Read an installed kernel spec; scan the search path if the spec's folder is not known.

        Parameters
        ----------
        name : str
            The name of the kernel spec.
        begin : callable
            Called with a description of each step when the step begins.
        find_prefix : callable
            Returns ``{prefix}`` for a spec that is installed in no environment; ``""`` if it is not
            known.

        Raises
        ------
        StartFailedError
            If no spec of that name is installed, or if the spec cannot be read.
        StuckError
            If the spec is not found and a folder of the search path hangs.
        """
        folder = find_by_name(self.folders, name)
        if folder is not None:
            begin(f"looking for the kernel spec {_shown(folder)}")
        if folder is None or not _has_spec(folder):
            folder = _find_folder(
                name, begin, search_path() if self._roots is None else self._roots
            )
        begin(f"reading the kernel spec {_shown(folder)}")
        return _read_kernelspec(folder, find_prefix)


def _find_folder(name: str, begin: BeginStep, roots: Sequence[Path]) -> Path:
    stuck: list[StuckError] = []
    folders = installed_names(begin, stuck, roots)
    folder = find_by_name(folders, name)
    if folder is None and stuck:
        raise stuck[0]
    if folder is None:
        installed = ", ".join(map(shown_spec, folders)) or "none"
        searched = ", ".join(map(str, roots))
        nearest = get_close_matches(name.lower(), folders, n=1)
        meant = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise StartFailedError(
            f"looking for the kernel spec {name!r}: it is not installed",
            hint=f"{meant}installed: {installed}; searched: {searched}",
        )
    return folder


def _read_kernelspec(folder: Path, find_prefix: Callable[[], str] = str) -> KernelSpec:
    """Read the kernel spec in a folder, and fill in its command.

    Raises
    ------
    StartFailedError
        If the file cannot be read, or if it is refused. The message contains line and column.
    """
    file = folder / "kernel.json"
    try:
        text = read_regular(file, MAX_KERNELSPEC_BYTES).decode("utf-8-sig")
        try:
            spec = parse_kernelspec(_name_of(folder), json.loads(text), str(folder))
            return _complete(spec, find_prefix)
        except KernelspecError as error:
            line, column = find_position(text, error.path)
            raise _refusal(f"{_shown(file)}:{line}:{column}", error, error.hint) from error
    except json.JSONDecodeError as error:
        place = f"{_shown(file)}:{error.lineno}:{error.colno}"
        raise _refusal(place, f"not JSON: {error.msg}") from error
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise _refusal(_shown(file), why) from error


def _shown(path: Path) -> str:
    """Return a path for a message: quoted and escaped if it contains unprintable characters."""
    return text if (text := str(path)).isprintable() else repr(text)


def _refusal(place: str, reason: object, hint: str = "") -> StartFailedError:
    return StartFailedError(
        f"reading the kernel spec {place}: {reason}",
        hint=hint or "correct the file, or install the kernel spec again",
    )


def _complete(spec: KernelSpec, find_prefix: Callable[[], str]) -> KernelSpec:
    """Replace the placeholders of a command that have the same value at each launch.

    Raises
    ------
    KernelspecError
        If the command contains ``{prefix}``, and no environment is known.
    """
    values = {"resource_dir": spec.resource_dir}
    for index, word in enumerate(spec.argv):
        if "{prefix}" in word:
            values["prefix"] = values.get("prefix") or environment_of(spec) or find_prefix()
            _check_prefix(values["prefix"], index)
    argv = fill_in(spec.argv, values)
    return replace(spec, argv=tuple(map(os.path.expanduser, argv)))


def _check_prefix(prefix: str, index: int) -> None:
    if not prefix:
        raise KernelspecError(
            f"argv[{index}] holds {{prefix}}; this folder belongs to no environment, and that of "
            "your Jupyter is not known",
            ("argv", index),
            "write the path of the environment instead of {prefix}; or install the kernel spec "
            "into the environment: jupyter kernelspec install --prefix PATH FOLDER",
        )


def environment_of(spec: KernelSpec) -> str:
    """Return the environment in which a spec is installed; ``""`` if there is none.

    The user's data folder is no environment. A link in it can lead to a spec in an environment.
    """
    own = Path(jupyter_data_dir(), "kernels")
    if spec.prefix and own not in Path(spec.resource_dir).parents:
        return spec.prefix
    target = Path(spec.resource_dir, "kernel.json").resolve().parent
    if own.resolve() in target.parents:
        return ""
    return replace(spec, resource_dir=str(target)).prefix


def python_spec(python: str, begin: BeginStep = ignore_step) -> KernelSpec:
    """Return a kernel spec that runs ipykernel with an interpreter.

    If a kernel spec for ipykernel is installed in the interpreter's environment, the result has the
    metadata of the installed kernel spec and supports the encryption that this spec declares.
    """
    folder = Path(python).parent.parent / "share/jupyter/kernels/python3"
    begin(f"reading the kernel spec {_shown(folder)}")
    try:
        spec = _read_kernelspec(folder)
    except StartFailedError:
        return ipykernel_spec(python)
    own = ipykernel_spec(python, spec.encryptions)
    return replace(own, resource_dir=str(folder), metadata=spec.metadata)
