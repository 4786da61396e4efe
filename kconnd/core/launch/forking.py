"""What a fork needs to be equal to a start: from which parent, or why not at all.

A parent (the zygote, `kconnd.programs.zygote`) has begun already when a kernel is forked from it.
So whatever an interpreter, the dynamic loader, libc or a module reads when it begins has to be the
same for both; that is its exec-time environment, and a parent serves one such only. What the
modules of a kernel read at their import is found by a test, which watches them.
"""

import fnmatch
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

from kconnd.core.launch.kernelspec_file import python_module

FORKED = frozenset({"ipykernel_launcher", "ipykernel"})
EXEC_TIME = (
    "LD_*",
    "MALLOC_*",
    "GLIBC_TUNABLES",
    "OPENSSL_*",
    "PYTHON*",
    "_PYTHON*",
    "HOME",  # where the user's own site-packages are
    "PATH",  # what an interpreter that is a script looks for
    "USER",  # whose messages a kernel's are, says jupyter_client.session
    "TERM",
    "DISPLAY",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "JPY_*",
    "JUPYTER_*",
    "IPYTHON*",
    "IN_SPHINX_RUN",
    "TRAITLETS_*",
    "TORNADO_*",
    "PYZMQ_*",
    "PSUTIL_*",
    "PROMPT_TOOLKIT_*",
    "ANDROID_*",  # by which platformdirs tells where it runs
    # Of the debugger:
    "DEBUGPY_*",
    "PYDEV*",
    "PYCHARM_*",
    "DEBUG_PYDEVD_*",
    "PATHS_FROM_ECLIPSE_TO_PYTHON",
    "GEVENT_*",
)
OWN = "KCONND_"  # ours, different for each kernel and read by no module
PAUSE = 60.0  # seconds
SHARE = 10


@dataclass(frozen=True)
class Parent:
    """What a parent is; kernels that need the same can have the same one.

    Parameters
    ----------
    command : tuple of str
        The interpreter and its flags.
    env : tuple of pairs
        Its environment, sorted; it may hold secrets of the user.
    preload : tuple of str
        Modules that it imports.
    """

    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = field(repr=False)
    preload: tuple[str, ...] = ()


def exec_time(env: Mapping[str, str], *, whole: bool) -> tuple[tuple[str, str], ...]:
    """Give the part of an environment that counts when a process begins.

    Parameters
    ----------
    env : mapping
        A kernel's environment.
    whole : bool
        Whether modules of the user's choice are imported, which may read any variable.
    """
    return tuple(
        sorted(
            (name, value)
            for name, value in env.items()
            if not name.startswith(OWN)
            and (whole or any(fnmatch.fnmatchcase(name, pattern) for pattern in EXEC_TIME))
        )
    )


def choose_parent(
    argv: tuple[str, ...], env: Mapping[str, str], cwd: str, preload: tuple[str, ...]
) -> Parent | str:
    """Choose the parent that a command can be forked from, or say why it cannot be.

    An interpreter takes what is relative in PYTHONPATH, an empty entry too, from the folder that
    it begins in: a kernel from its own, and so has its parent to, whose folder is another.
    """
    found = python_module(argv)
    if found is None:
        return f"only ipykernel can be forked, and this runs {argv[0]}"
    if found.module not in FORKED:
        return f"only ipykernel can be forked, and this runs {found.module}"
    if env.get("PYTHONPATH"):
        folders = env["PYTHONPATH"].split(":")
        absolute = (posixpath.join(cwd, folder) if folder else cwd for folder in folders)
        env = {**env, "PYTHONPATH": ":".join(absolute)}
    return Parent((argv[0], *found.flags), exec_time(env, whole=bool(preload)), preload)


def wants_more_files(limits: Mapping[str, float], own: tuple[int, int]) -> bool:
    """Tell whether more open files are asked for than a daemon that began so can give."""
    return 0 <= own[1] < limits.get("open_files", 0)


def choose_open_files(limits: Mapping[str, float], own: tuple[int, int]) -> tuple[int, int]:
    """Choose a kernel's soft and hard limit on open files: what is asked for, if it can be had.

    Parameters
    ----------
    limits : mapping
        What is asked for.
    own : tuple of int
        The limits that a daemon began with, of which its kernels get the same; below 0 is none.
    """
    if "open_files" not in limits:
        return own
    asked = int(limits["open_files"])
    found = min(asked, own[1]) if own[1] >= 0 else asked
    return found, found


def pause_after(took: float) -> float:
    """Choose for how long a refusal holds where nothing has changed on disk.

    What it came from may have passed: a machine without memory, a server that did not answer.
    To try again costs a start as long as it took, so it is done rarely where that is long.
    """
    return max(PAUSE, SHARE * took)
