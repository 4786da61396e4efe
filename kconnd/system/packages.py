"""Find out which packages are installed in the environment of a program.

No package is imported, and no program is run; this module reads files. A program
``PREFIX/bin/NAME`` uses the package folders below PREFIX. A Python outside a virtual environment
also uses the package folder below the user's home. In a package folder of Python, each package has
a ``dist-info`` or ``egg-info`` ("Recording installed projects" in the Python Packaging User Guide).
In a package folder of R, each package has a ``DESCRIPTION`` ("Writing R Extensions"). R uses the
user's own package folders first (``?libPaths`` in R). A program of npm is a link to a file below
``node_modules/PACKAGE``, where each package has a ``package.json`` ("folders" and "package.json" in
npm's documentation).

A folder can be on a file server that hangs, so this module calls ``begin`` before each access (see
`kconnd.system.hung_calls`). Only regular files of a limited size are read.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kconnd.core.launch.measured import normalize
from kconnd.system.files.regular import read_regular
from kconnd.system.hung_calls import BeginStep

MAX_METADATA_BYTES = 1 << 20
MAX_RECORD_BYTES = 1 << 18  # sufficient, because packages of kernels have few files
MAX_PYTHONPATH_FOLDERS = 8
PYTHON = re.compile(r"python(\d(\.\d+)?)?")
R_PROGRAMS = frozenset({"R", "Rscript"})
NPM_FOLDER = "/node_modules"
# Below the prefix of R, and below R's own folder: IRkernel's kernel spec names the program there.
R_FOLDERS = ("lib/R/site-library", "lib/R/library", "lib64/R/library", "site-library", "library")
R_VARIABLES = ("R_LIBS", "R_LIBS_USER")
_MODULE_ENDS = (".py", ".pyc", ".so")
# Files that add folders, and the finders of editable installations (PEP 660).
_EXTENDS_PATH = re.compile(r".+\.pth|__editable__.*_finder\.py|__editable___.*\.py")
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_INFO = re.compile(r"(.+?)(?:-(\d[^-]*))?(?:-py\d(?:\.\d+)?)?\.(?:dist|egg)-info")

Stamp = tuple[str, int, int]  # a path, its inode and its modification time


@dataclass(frozen=True)
class Package:
    """An installed package: its name, its version (``""`` if unknown) and its metadata's path."""

    name: str
    version: str
    info: str


def package_folders(program: str, env: Mapping[str, str], begin: BeginStep) -> list[str]:
    """List the package folders of a program's environment, in the order of their precedence.

    Parameters
    ----------
    program : str
        The absolute path of the program.
    env : mapping
        The environment variables of the program.
    begin : callable
        Called with a description of each step when the step begins.
    """
    name = program.rpartition("/")[2]
    folders = [path for path in env.get("PYTHONPATH", "").split(":") if path.startswith("/")]
    folders = folders[:MAX_PYTHONPATH_FOLDERS]
    begin(f"resolving {program}")
    folders += _npm_folders(os.path.realpath(program))
    prefixes = _prefixes(program, env.get("HOME", ""), begin)
    if name in R_PROGRAMS:
        begin("looking for the packages of R")
        folders += _r_folders(prefixes, env)
    for prefix in prefixes:
        begin(f"looking for packages in {prefix}")
        folders += _python_folders(prefix)
    return list(dict.fromkeys(folders))


def _prefixes(program: str, home: str, begin: BeginStep) -> list[str]:
    prefix, folder, name = _split(program)
    if folder != "bin":
        return []
    begin(f"resolving {program}")
    resolved_prefix, resolved_folder, _ = _split(os.path.realpath(program))
    others = [resolved_prefix] if resolved_folder == "bin" else []
    settings = _read(f"{prefix}/pyvenv.cfg")
    if settings and "include-system-site-packages = true" not in settings:
        return [prefix] if PYTHON.fullmatch(name) else [prefix, *others]
    user = [f"{home}/.local"] if home else []
    local = [f"{prefix}/local", *(f"{other}/local" for other in others)]
    return [*user, prefix, *others, *local]


def _npm_folders(resolved: str) -> list[str]:
    """Return the package folder of npm in which a program is installed."""
    parent, separator, _ = resolved.rpartition(f"{NPM_FOLDER}/")
    return [f"{parent}{NPM_FOLDER}"] if separator else []


def _r_folders(prefixes: list[str], env: Mapping[str, str]) -> list[str]:
    """List the package folders of R: those of the user, then those of the installation."""
    shared = [f"{prefix}/{folder}" for prefix in prefixes for folder in R_FOLDERS]
    texts = [env.get(name, "") for name in R_VARIABLES]
    own = [path for text in texts for path in text.split(":") if path.startswith("/")]
    home, version = env.get("HOME", ""), _r_version(shared, "base").rpartition(".")[0]
    if home and version and "R_LIBS_USER" not in env:
        own += map(str, Path(home, "R").glob(f"*-library/{version}"))
    return [*own, *shared]


def _r_version(folders: list[str], package: str) -> str:
    """Return the version of a package for R; ``""`` if the package is in none of the folders."""
    for folder in folders:
        for line in _read(f"{folder}/{package}/DESCRIPTION").splitlines():
            if line.startswith("Version:"):
                return line.partition(":")[2].strip()
    return ""


def _split(program: str) -> tuple[str, str, str]:
    """Split a path ``PREFIX/FOLDER/NAME``."""
    path, _, name = program.rpartition("/")
    prefix, _, folder = path.rpartition("/")
    return prefix, folder, name


def _python_folders(prefix: str) -> Iterator[str]:
    for library in ("lib", "lib64"):
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(f"{prefix}/{library}")):  # noqa: PTH208  # names suffice
                if name.startswith("python3"):
                    yield f"{prefix}/{library}/{name}/site-packages"
                    yield f"{prefix}/{library}/{name}/dist-packages"


def may_import(module: str, folders: list[str], begin: BeginStep) -> bool:
    """Return whether a Python interpreter may find a module; False if it certainly does not.

    Parameters
    ----------
    module : str
        The name of a top-level module.
    folders : list of str
        The working directory and the package folders of the interpreter.
    begin : callable
        Called with a description of each step when the step begins.
    """
    pending, seen, is_known = list(folders), set[str](), False
    while pending:
        folder = pending.pop(0)
        if folder in seen:
            continue
        seen.add(folder)
        begin(f"looking for the module {module} in {folder}")
        try:
            names = os.listdir(folder)  # noqa: PTH208  # names suffice
        except OSError:
            continue
        is_known = is_known or folder in folders[1:]
        if any(_is_module(name, module) for name in names):
            return True
        for name in sorted(filter(_EXTENDS_PATH.fullmatch, names)):
            text = _read(f"{folder}/{name}")
            if name.endswith(".py") and f"'{module}'" in text:
                return True
            pending += _paths_in(text, folder) if name.endswith(".pth") else []
    return not is_known


def _is_module(name: str, module: str) -> bool:
    """Return whether a file or folder of a package folder can be a module."""
    return name == module or (name.partition(".")[0] == module and name.endswith(_MODULE_ENDS))


def _paths_in(text: str, folder: str) -> list[str]:
    """List the folders that a ``.pth`` file adds to the path of modules (`site` in Python)."""
    lines = [line.strip() for line in text.splitlines()]
    return [
        str(Path(folder, line))
        for line in lines
        if line and not line.startswith(("#", "import ", "import\t"))
    ]


def read_stamps(paths: list[str], begin: BeginStep) -> list[Stamp]:
    """Return a stamp for each path that exists."""
    stamps = []
    for path in paths:
        begin(f"looking at {path}")
        with contextlib.suppress(OSError):
            status = os.stat(path)  # noqa: PTH116  # a dozen paths at each start
            stamps.append((path, status.st_ino, status.st_mtime_ns))
    return stamps


class InstalledPackages:
    """The packages in some folders, by normalized name; an earlier folder takes precedence.

    Parameters
    ----------
    folders : list of str
        The paths of the folders.
    begin : callable
        Called with a description of each step when the step begins.
    """

    def __init__(self, folders: list[str], begin: BeginStep) -> None:
        self._folders, self._begin = folders, begin
        self._packages: dict[str, Package] = {}
        for folder in folders:
            begin(f"listing the packages in {folder}")
            with contextlib.suppress(OSError):
                for name in os.listdir(folder):  # noqa: PTH208  # names suffice
                    if match := _INFO.fullmatch(name):
                        package = Package(match[1], match[2] or "", f"{folder}/{name}")
                        self._packages.setdefault(normalize(match[1]), package)

    @property
    def versions(self) -> dict[str, str]:
        """The version of each Python package."""
        return {name: package.version for name, package in self._packages.items()}

    def version_of(self, package: str) -> str:
        """Return the version of a package for npm, Python or R; ``""`` if unknown.

        The package folder of npm is known only for a program that is installed in it. Its package
        therefore has precedence over a Python package with the same name.
        """
        if version := self._version_in_npm(package):
            return version
        installed = self._packages.get(normalize(package))
        if installed is not None:
            return installed.version
        self._begin(f"looking for {package} among the packages of R")
        return _r_version(self._folders, package)

    def _version_in_npm(self, package: str) -> str:
        for folder in self._folders:
            if folder.endswith(NPM_FOLDER):
                path = f"{folder}/{package}/package.json"
                self._begin(f"reading {path}")
                with contextlib.suppress(ValueError, RecursionError):
                    content = json.loads(_read(path))
                    version = content.get("version") if isinstance(content, dict) else None
                    return version if isinstance(version, str) else ""
        return ""

    def find_package(self, module: str, program: str) -> Package | None:
        """Return the package that contains a module or a program."""
        top = module.partition(".")[0]
        if package := self._packages.get(normalize(top or program)):
            return package
        starts = (f"{top}/__init__.py,", f"{top}.py,") if top else (f"../../../bin/{program},",)
        for package in self._packages.values():
            self._begin(f"reading {package.info}/RECORD")
            record = _read(f"{package.info}/RECORD", MAX_RECORD_BYTES)
            if any(line.startswith(starts) for line in record.splitlines()):
                return package
        return None

    def read_requirements(self, package: Package) -> list[str]:
        """Return the names of a package's requirements, except those that belong to an extra."""
        self._begin(f"reading {package.info}")
        metadata = _read(f"{package.info}/METADATA") or _read(f"{package.info}/PKG-INFO")
        header = metadata.partition("\n\n")[0].splitlines()
        lines = [
            line.partition(":")[2].strip()
            for line in header
            if line.startswith("Requires-Dist:") and "extra ==" not in line
        ]
        lines += _read(f"{package.info}/requires.txt").partition("\n[")[0].splitlines()
        return [match[0] for line in lines if (match := _REQUIREMENT.match(line))]


def _read(path: str, max_bytes: int = MAX_METADATA_BYTES) -> str:
    """Read a text file; ``""`` if the file is missing, too large or not regular."""
    try:
        return read_regular(Path(path), max_bytes).decode(errors="replace")
    except OSError:
        return ""
