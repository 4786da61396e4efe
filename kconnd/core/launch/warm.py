"""Decides whether a warm kernel can replace a launch, and lists the files that a kernel has read.

All functions are pure. A Python kernel evaluates the expression `READING` to the list of the files
that this kernel has read; `READING` leaves no names in the user's namespace. A kernel of another
language cannot list them. Its list consists of the program and its package folders, of the files
that its processes have open or mapped, of the files in its command, and of the usual startup files
(`files_of_process`).
"""

import ast
import json
from collections.abc import Collection
from dataclasses import dataclass, replace

from kconnd.core.launch.kernel_files import kernel_files
from kconnd.core.launch.notebook import Notebook
from kconnd.core.launch.plan import LaunchPlan, kernel_variables

_NO_FILES = kernel_files("", "", "")
SHELL_FILES = (
    ".profile",
    ".bash_profile",
    ".bash_login",
    ".bashrc",
    ".zshenv",
    ".zprofile",
    ".zshrc",
    ".config/fish/config.fish",
)
# The files that interpreters of some languages run when they start, in the home folder or in the
# working folder.
LANGUAGE_FILES = (
    ".Rprofile",
    ".Renviron",
    ".octaverc",
    ".gnuplot",
    ".irbrc",
    ".ghci",
    ".julia/config/startup.jl",
)


FOLDER_FILES = tuple(name for name in LANGUAGE_FILES if "/" not in name)


def same_start(first: LaunchPlan, second: LaunchPlan) -> bool:
    """Return whether two plans differ only in names, so that one process can serve both plans."""
    return _nameless(first) == _nameless(second)


def in_place_of(plan: LaunchPlan, warm: LaunchPlan, notebook: Notebook) -> LaunchPlan:
    """Return a plan without what a warm kernel gets at its hand-over: folder and notebook.

    A variable with another value than the notebook's, such as one of the profile, is not changed.
    """
    given = notebook.variables().items()
    env = {key: value for key, value in plan.env.items() if (key, value) not in given}
    return replace(plan, env=env, cwd=warm.cwd if notebook.folder else plan.cwd)


def _nameless(plan: LaunchPlan) -> LaunchPlan:
    file = plan.files.connection_file
    own = kernel_variables("", file)
    return replace(
        plan,
        name="",
        generation=0,
        argv=tuple(arg.replace(file, "{file}") for arg in plan.argv),
        env={key: value for key, value in plan.env.items() if key not in own},
        files=_NO_FILES,
    )


@dataclass(frozen=True)
class FilesRead:
    """The files that a process read when it started, and that a new process would read again.

    Parameters
    ----------
    places : tuple of str
        Files and folders: the interpreter, folders of packages, the user's own modules, and
        IPython's configuration and startup scripts. Paths that were looked up and do not exist are
        included.
    folders : tuple of str
        The user's own folders on the module search path. Such a folder may also contain files that
        no kernel reads. A change in the folder therefore makes a warm kernel outdated only if the
        import of a module in ``names`` would now find another file.
    names : frozenset of str
        The top-level package or module name of each imported module.
    """

    places: tuple[str, ...]
    folders: tuple[str, ...]
    names: frozenset[str]


_READING = """\
import glob, json, os, sys
from os.path import abspath, dirname, join, realpath
application = getattr(sys.modules.get("ipykernel.kernelapp"), "IPKernelApp", None)
app = application.instance() if application and application.initialized() else None
shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
profile = getattr(app or shell, "profile_dir", None)
library = dirname(os.__file__)
def installed(path):
    return path.startswith(library) or "-packages" in path
modules = list(sys.modules.items())
files = {getattr(module, "__file__", None) for _, module in modules}
ways = [abspath(way) for way in sys.path if way]
python = dirname(sys.executable)
places = [sys.executable, realpath(sys.executable), join(sys.prefix, "pyvenv.cfg")]
places += [join(python, "pyvenv.cfg"), join(dirname(python), "pyvenv.cfg")]
places += [way for way in ways if installed(way) or not os.path.isdir(way)]
places += [path for way in ways if installed(way) for path in glob.glob(join(way, "*.pth"))]
places += [abspath(file) for file in files if isinstance(file, str) and not installed(file)]
for folder in {*getattr(app, "config_file_paths", ()), getattr(profile, "location", "")} - {""}:
    configs = {"ipython_config.py", "ipython_kernel_config.py", *getattr(app, "config_files", ())}
    for name in configs:
        stem = name.rpartition(".")[0] or name
        places += [join(folder, stem + ending) for ending in (".py", ".json")]
    startup = join(folder, "startup")
    places += [startup, *glob.glob(join(startup, "*.py")), *glob.glob(join(startup, "*.ipy"))]
scripts = [*getattr(app, "exec_files", ()), os.environ.get("PYTHONSTARTUP", "")]
places += [abspath(script) for script in scripts if script]
folders = [way for way in ways if not installed(way) and os.path.isdir(way)]
names = {name.partition(".")[0] for name, _ in modules}
found = json.dumps([sorted(set(places)), sorted(set(folders)), sorted(names)])
"""
# A Python kernel evaluates this expression to the JSON text of a `FilesRead`.
READING = f"(lambda space: (exec({_READING!r}, space), space['found'])[1])({{}})"


def parse_reading(answer: str) -> FilesRead | None:
    """Parse a kernel's reply to `READING`; return None if the reply is invalid."""
    try:
        places, folders, names = json.loads(ast.literal_eval(answer))
        if not all(isinstance(word, str) for word in (*places, *folders, *names)):
            return None
        return FilesRead(tuple(places), tuple(folders), frozenset(names))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def files_of_process(plan: LaunchPlan, used: Collection[str]) -> FilesRead:
    """List the files of a kernel that cannot list them itself.

    Parameters
    ----------
    plan : LaunchPlan
        The plan of the kernel's launch.
    used : collection of str
        The files and folders that the kernel's processes are known to use.
    """
    own = vars(plan.files).values()
    words = (arg for arg in plan.argv if arg.startswith("/") and arg not in own)
    startup = _startup_files(plan, (*SHELL_FILES, *LANGUAGE_FILES))
    return FilesRead(tuple(sorted({*used, *words, *startup} - {*own})), (), frozenset())


def with_shell_files(reading: FilesRead, plan: LaunchPlan) -> FilesRead:
    """Add the startup files of a login shell, from which a kernel was started."""
    return replace(reading, places=(*reading.places, *_startup_files(plan, SHELL_FILES)))


def _startup_files(plan: LaunchPlan, names: Collection[str]) -> list[str]:
    """Return the paths that startup files have in the home folder and in the working folder."""
    folders = {plan.env.get("HOME", ""), plan.cwd} - {""}
    return [f"{folder}/{name}" for folder in sorted(folders) for name in names]
