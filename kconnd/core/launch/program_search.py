"""Finds the program of a kernel whose command begins with a name instead of a path.

jupyter_client (8.10) replaces ``python``, ``python3`` and the name with its own version, such as
``python3.11``, by the interpreter that runs it. It looks for every other name on the ``PATH`` of
the kernel's environment. The daemon is no Jupyter of the user, so it finds the user's Jupyter. An
interpreter is looked for

1. in the environment in which the kernel spec is installed,
2. in the environment of the ``kconnd-ctl`` that asked, if the owner has installed it,
3. in the environment of the first ``jupyter`` on the owner's ``PATH``, which its first line names.

If none of these has it, the start is refused, because the packages of another interpreter would
differ. A name with a version that the user's Jupyter does not have is a program like any other.
A program is looked for in the folders that the kernel spec or the profile put first on ``PATH``,
then in the ``bin`` of the environment of the kernel spec, then in the other folders of ``PATH``,
which are the owner's. A name that a login shell has to find stays as it is.

The installation of the machine's service is never searched for ``jupyter``. All functions are pure:
the caller passes the look-ups of files in.
"""

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from posixpath import basename, dirname, join
from typing import Protocol

from kconnd.core.launch.kernelspec_file import KernelSpec, python_module
from kconnd.errors import StartFailedError

_PYTHON = re.compile(r"python(\d+(\.\d+)?)?")  # names for which an environment is looked for
_INTERPRETER = re.compile(r"(python|pypy)\d*(\.\d+)*")  # the last part of an interpreter's path
OWN_ORIGIN = "in the environment of the kernel spec"
_ANY_VERSION = ("python", "python3")  # names for which Jupyter runs its own interpreter
# The marks of a virtual environment and of a conda environment.
ENVIRONMENT_MARKS = ("pyvenv.cfg", "conda-meta")


class Files(Protocol):
    """The look-ups of files that a search needs; none of them raises an error."""

    def is_executable(self, path: str) -> bool:
        """Return whether a path leads to a file that the user can execute."""
        ...

    def exists(self, path: str) -> bool:
        """Return whether a path leads to anything."""
        ...

    def resolve(self, path: str) -> str:
        """Return a path without symbolic links."""
        ...

    def read_head(self, path: str) -> str:
        """Return the beginning of a file; ``""`` if it cannot be read."""
        ...


@dataclass(frozen=True)
class Program:
    """The program of a launch, and how it was chosen.

    Parameters
    ----------
    word : str
        The first word of the command.
    path : str
        The path that is executed.
    origin : str
        Where the program was found, for the user.
    spec_dir : str
        The folder of the kernel spec; ``""`` for a command in a profile.
    on_path : bool
        Whether the program was found on the kernel's ``PATH``.
    """

    word: str
    path: str
    origin: str = ""
    spec_dir: str = ""
    on_path: bool = False


@dataclass(frozen=True)
class Places:
    """The places in which a program can be looked for.

    Parameters
    ----------
    environment : str
        The environment in which the kernel spec is installed; ``""`` if it is installed in none.
    prefix : str
        The folder whose ``bin`` has the programs of the kernel spec; ``""`` if there is none.
    client : str
        The name of the owner's client that asked.
    client_prefix : str
        The environment in which the owner has installed this client; ``""`` if it is not known.
    owner_path : str
        The owner's ``PATH``, on which ``jupyter`` is looked for.
    owner_path_source : str
        Where the owner's ``PATH`` comes from, for the user.
    kernel_path : str
        The ``PATH`` of the kernel.
    cwd : str
        The working directory, below which relative folders of ``PATH`` are.
    named_by : str
        What names the program, for the user.
    service_prefix : str
        The environment of the machine's service; ``""`` if the daemon does not belong to it.
    by_shell : bool
        Whether a login shell prepares the environment and runs the command.
    after_setup : bool
        Whether the profile has commands for this shell, which can choose an environment.
    """

    environment: str = ""
    prefix: str = ""
    client: str = "kconnd-ctl"
    client_prefix: str = ""
    owner_path: str = ""
    owner_path_source: str = "PATH of the owner"
    kernel_path: str = ""
    cwd: str = "/"
    named_by: str = "the kernel spec"
    service_prefix: str = ""
    by_shell: bool = False
    after_setup: bool = False


def is_bare(word: str) -> bool:
    """Return whether a word names a program without a path."""
    return "/" not in word


def is_python(word: str) -> bool:
    """Return whether a word names a Python interpreter without a path."""
    return _PYTHON.fullmatch(word) is not None


def find_program(spec: KernelSpec, places: Places, files: Files) -> Program:
    """Find the program of a kernel spec.

    Raises
    ------
    StartFailedError
        If there is no such program in any of the places.
    """
    word = spec.argv[0]
    if not is_bare(word):
        if not word.startswith("/") and not places.by_shell:
            _check_relative(spec, word, places, files)
        return _program(spec, word, f"named by {places.named_by}")
    if is_python(word) and spec.resource_dir:
        return _find_python(spec, word, places, files)
    return _find_on_path(spec, word, places, files)


def _check_relative(spec: KernelSpec, word: str, places: Places, files: Files) -> None:
    """Refuse a path that leads nowhere; a relative path is below the working directory."""
    path = join(places.cwd, word)
    if files.exists(path):
        return
    hint = f"write its path, beginning with /, in argv of {spec.resource_dir}/kernel.json"
    if files.exists(join(spec.resource_dir, word)):
        name = word.removeprefix("./")
        hint = f"it is beside kernel.json: write {{resource_dir}}/{name} in argv of this file"
    raise StartFailedError(
        f"looking for the program {word}: {path} does not exist; a relative path is below the "
        "kernel's working directory",
        hint=hint,
    )


def _program(spec: KernelSpec, path: str, origin: str) -> Program:
    return Program(spec.argv[0], path, origin, spec.resource_dir)


# --- an interpreter


def _find_python(spec: KernelSpec, word: str, places: Places, files: Files) -> Program:
    searched = []
    if places.environment:
        path = _interpreter_in(places.environment, word, files)
        if path:
            return _program(spec, path, OWN_ORIGIN)
        searched.append(f"{places.environment}/bin (the environment of the kernel spec)")
    if places.after_setup:
        return _program(spec, word, "looked for by the login shell, after 'setup'")
    jupyter = find_jupyter(word, places, files)
    if jupyter.path:
        return _program(spec, jupyter.path, jupyter.origin)
    if jupyter.is_other_version:
        return _find_on_path(spec, word, places, files)
    raise _no_interpreter(spec, (*searched, *jupyter.searched))


@dataclass(frozen=True)
class JupyterSearch:
    """The result of a search for the interpreter of the owner's Jupyter.

    Parameters
    ----------
    path : str
        The interpreter; ``""`` if there is none of the name.
    origin : str
        Where the interpreter was found, for the user.
    searched : tuple of str
        The places that were searched, with what was found there.
    is_other_version : bool
        Whether the owner's Jupyter is known and has no interpreter of the version in the name.
    """

    path: str = ""
    origin: str = ""
    searched: tuple[str, ...] = ()
    is_other_version: bool = False


def find_jupyter(word: str, places: Places, files: Files) -> JupyterSearch:
    """Find the interpreter that runs the owner's Jupyter, by which Jupyter replaces ``word``."""
    searched: list[str] = []
    if prefix := places.client_prefix:
        if path := _interpreter_in(prefix, word, files):
            return JupyterSearch(path, f"in the environment of {places.client}, which asked for it")
        searched.append(f"{prefix}/bin (the environment of {places.client}, which asked for it)")
    for script in _scripts_on(places.owner_path, "jupyter", files):
        interpreter = interpreter_of(script, places.owner_path, files)
        if _is_below(interpreter or files.resolve(script), places.service_prefix, files):
            searched.append(f"{script} (it belongs to the service kconnd, and is not yours)")
            continue
        if not interpreter or not files.is_executable(interpreter):
            reason = f"{interpreter} does not exist" if interpreter else "its Python is not known"
            return JupyterSearch(searched=(*searched, f"{script} ({reason})"))
        if word not in _ANY_VERSION:
            versioned = join(dirname(interpreter), word)
            if not files.is_executable(versioned):
                return JupyterSearch(searched=tuple(searched), is_other_version=True)
            interpreter = versioned
        origin = f"it runs {script}, the first on the {places.owner_path_source}"
        return JupyterSearch(interpreter, origin)
    path = places.owner_path or "not known"
    searched.append(f"jupyter on the {places.owner_path_source} ({path})")
    is_other = word not in _ANY_VERSION and bool(places.client_prefix)
    return JupyterSearch(searched=tuple(searched), is_other_version=is_other)


def find_owner_environment(places: Places, files: Files) -> str:
    """Return the environment of the owner's Jupyter, which is Jupyter's ``{prefix}``, or ``""``."""
    if places.client_prefix:
        return places.client_prefix
    interpreter = find_jupyter("python", places, files).path
    return dirname(dirname(interpreter)) if interpreter else ""


def check_kept(program: Program, files: Files) -> Program:
    """Return the program of the kernel's previous process, for a restart.

    Raises
    ------
    StartFailedError
        If the program cannot be executed any more.
    """
    if files.is_executable(program.path):
        return replace(program, on_path=False)
    fault = "cannot be executed" if files.exists(program.path) else "does not exist any more"
    raise StartFailedError(
        f"looking for the program {program.word}: {program.path}, with which the kernel was "
        f"started, {fault}",
        hint="restore it; or stop the kernel and start it again, and the program is looked for",
    )


def _interpreter_in(environment: str, word: str, files: Files) -> str:
    """Return the interpreter of an environment with this name, or ``""``.

    An environment without ``python`` can have ``python3``, as ``/usr`` does on Debian.
    """
    names = _ANY_VERSION if word == "python" else (word,)
    paths = (f"{environment.rstrip('/')}/bin/{name}" for name in names)
    return next(filter(files.is_executable, paths), "")


def _scripts_on(search_path: str, name: str, files: Files) -> Iterator[str]:
    return filter(files.is_executable, _candidates(search_path, name))


def _candidates(search_path: str, name: str) -> Iterator[str]:
    """Return the paths that a name can have; a relative folder of ``PATH`` is skipped."""
    folders = filter(None, search_path.split(":"))
    return (f"{folder.rstrip('/')}/{name}" for folder in folders if folder.startswith("/"))


def _is_below(path: str, folder: str, files: Files) -> bool:
    """Return whether a path is below a folder, as written or through a link to a folder."""
    if not folder or not path:
        return False
    parent, own = files.resolve(dirname(path)), files.resolve(folder).rstrip("/")
    return f"{parent}/".startswith(f"{own}/")


def interpreter_of(script: str, search_path: str, files: Files) -> str:
    """Return the interpreter that runs an installed script; ``""`` if it is no Python script."""
    for word in _words_of_head(files.read_head(script)):
        if "$0" in word:  # a script of an environment that can be moved
            return join(dirname(files.resolve(script)), basename(word))
        if not _INTERPRETER.fullmatch(basename(word)):
            continue
        if "/" in word:
            return word
        return next(_scripts_on(search_path, word, files), "")
    return _neighbour_of(files.resolve(script), files)


def _words_of_head(head: str) -> list[str]:
    """Return the words of the command that runs a script.

    A path that is too long for a first line, or holds a blank, stands in a second line, which is
    text for Python and ``exec`` for a shell: ``'''exec' "/a b/python" "$0" "$@"``.
    """
    first, _, rest = head.partition("\n")
    if not first.startswith("#!"):
        return []
    second = rest.partition("\n")[0]
    if not second.startswith("'''exec'"):
        return first[2:].split()
    try:
        return shlex.split(second)
    except ValueError:
        return []


def _neighbour_of(script: str, files: Files) -> str:
    """Return the interpreter of the environment whose ``bin`` has a script, or ``""``."""
    folder = dirname(script)
    marks = (join(dirname(folder), mark) for mark in ENVIRONMENT_MARKS)
    return join(folder, "python") if any(map(files.exists, marks)) else ""


def _no_interpreter(spec: KernelSpec, searched: tuple[str, ...]) -> StartFailedError:
    module = python_module(spec.argv)
    line = "python: PATH"
    if module is None or not module.module.startswith("ipykernel"):
        rest = ", ".join(f'"{word}"' if "{" in word else word for word in spec.argv[1:])
        line = f"argv: [PATH, {rest}]"
    return StartFailedError(
        f"looking for the program {spec.argv[0]} of the kernel spec {spec.resource_dir}: it could "
        f"be any interpreter; searched: {'; '.join(searched)}",
        hint=f"write a profile with the line {line}, where PATH is the path of the interpreter; or "
        "install the kernel spec into its environment: jupyter kernelspec install --prefix "
        "ENVIRONMENT FOLDER",
    )


# --- any other program


def _find_on_path(spec: KernelSpec, word: str, places: Places, files: Files) -> Program:
    own = f"{places.prefix.rstrip('/')}/bin/{word}" if places.prefix else ""
    if places.by_shell:
        if own and files.is_executable(own):
            return _program(spec, own, OWN_ORIGIN)
        return _program(spec, word, "looked for by the login shell")
    added, others = _split_path(places)
    candidates = dict.fromkeys(join(places.cwd, folder, word) for folder in added)
    candidates |= dict.fromkeys([own] if own else [])
    candidates |= dict.fromkeys(join(places.cwd, folder, word) for folder in others)
    for is_suitable in (files.is_executable, files.exists):
        # The launch explains why a file that exists cannot be executed.
        path = next(filter(is_suitable, candidates), "")
        if path and path == own:
            return _program(spec, own, OWN_ORIGIN)
        if path:
            return replace(_program(spec, path, "on its PATH"), on_path=True)
    raise _no_program(word, candidates)


def _split_path(places: Places) -> tuple[list[str], list[str]]:
    """Split the kernel's ``PATH`` before the first folder that the owner's ``PATH`` has as well."""
    folders, owned = places.kernel_path.split(":"), places.owner_path.split(":")
    count = next((at for at, folder in enumerate(folders) if folder in owned), len(folders))
    return folders[:count], folders[count:]


def _no_program(word: str, candidates: Iterable[str]) -> StartFailedError:
    folders = ", ".join(dirname(path) for path in candidates)
    return StartFailedError(
        f"looking for the program {word}: no such program; searched: {folders}",
        hint=f"install {word} into one of these folders; or write its path: argv: [PATH, …] in a "
        "profile, or in argv of kernel.json",
    )
