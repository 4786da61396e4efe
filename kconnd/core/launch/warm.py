"""Decides whether a warm kernel can replace a launch, and lists the files that a kernel has read.

All functions are pure. When a warm kernel evaluates the expression `READING`, the value is the list
of the files that this kernel has read. `READING` and the code of `renaming_code` run in the kernel
and leave no names in the user's namespace.
"""

import ast
import json
from dataclasses import dataclass, replace

from kconnd.core.launch.kernel_files import kernel_files
from kconnd.core.launch.plan import LaunchPlan, kernel_variables

_NO_FILES = kernel_files("", "", "")


def same_start(first: LaunchPlan, second: LaunchPlan) -> bool:
    """Return whether two plans differ only in names, so that one process can serve both plans."""
    return _nameless(first) == _nameless(second)


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


def renaming_code(old_file: str, name: str, file: str) -> str:
    """Return code that gives a Python kernel a new name and a new path of its connection file.

    The code leaves nothing in the user's namespace, and a second run changes nothing.
    """
    variables = kernel_variables(name, file)
    return f"""\
__import__("os").environ.update({variables!r})
__import__("ipykernel.kernelapp").kernelapp.IPKernelApp.instance().connection_file = {file!r}
(lambda words: words.__setitem__(slice(None), [
    {file!r} if word == {old_file!r} else word for word in words
]))(__import__("sys").argv)
"""


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
app = sys.modules["ipykernel.kernelapp"].IPKernelApp.instance()
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
for folder in {*app.config_file_paths, app.profile_dir.location}:
    for name in {"ipython_config.py", *app.config_files}:
        stem = name.rpartition(".")[0] or name
        places += [join(folder, stem + ending) for ending in (".py", ".json")]
    startup = join(folder, "startup")
    places += [startup, *glob.glob(join(startup, "*.py")), *glob.glob(join(startup, "*.ipy"))]
scripts = [*app.exec_files, os.environ.get("PYTHONSTARTUP", "")]
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
