"""Chooses the parent process to fork a kernel from, or explains why the kernel cannot be forked.

A forked kernel must behave like a kernel that was started by exec. The parent of a forked kernel is
a zygote (`kconnd.programs.zygote`). The interpreter, the dynamic loader, libc and some modules read
environment variables when a process starts. These variables are called the exec-time environment.
A forked kernel uses the values that its parent has read, so each variable of the exec-time
environment must have the same value in the parent and in the kernel. Each parent therefore serves
one exec-time environment. The test suite checks which variables the modules of a kernel read during
their import.
"""

import fnmatch
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from kconnd.core.launch.kernelspec_file import python_module

FORKED = frozenset({"ipykernel_launcher", "ipykernel"})
EXEC_TIME = (
    "LD_*",
    "MALLOC_*",
    "GLIBC_TUNABLES",
    "OPENSSL_*",
    "PYTHON*",
    "_PYTHON*",
    "HOME",  # the folder that contains the user's own site-packages
    "PATH",  # read by an interpreter that is a script
    "USER",  # the user name in messages (jupyter_client.session)
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
    "ANDROID_*",  # platformdirs detects Android by these
    # Variables of the debugger:
    "DEBUGPY_*",
    "PYDEV*",
    "PYCHARM_*",
    "DEBUG_PYDEVD_*",
    "PATHS_FROM_ECLIPSE_TO_PYTHON",
    "GEVENT_*",
)
OWN_PREFIX = "KCONND_"  # variables that differ for each kernel and that no module reads
MIN_REFUSAL_S = 60.0
REFUSAL_PER_ATTEMPT = 10


@dataclass(frozen=True)
class Parent:
    """The properties of a parent process; kernels that need equal properties share a parent.

    Parameters
    ----------
    command : tuple of str
        The interpreter and its flags.
    env : tuple of pairs
        The environment of the parent, sorted. The environment may contain secrets of the user.
    preload : tuple of str
        The modules that the parent imports.
    """

    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = field(repr=False)
    preload: tuple[str, ...] = ()


def exec_time(env: Mapping[str, str], *, whole: bool) -> tuple[tuple[str, str], ...]:
    """Return a kernel's exec-time environment: the variables that are read when a process starts.

    Parameters
    ----------
    env : mapping
        A kernel's environment.
    whole : bool
        Whether to return all variables except those of kconnd. This is needed if the parent imports
        modules of the user's choice, because such modules may read any variable.
    """
    return tuple(
        sorted(
            (name, value)
            for name, value in env.items()
            if not name.startswith(OWN_PREFIX) and (whole or _is_exec_time(name))
        )
    )


@lru_cache(1024)  # most variables are equal in all kernels of a user
def _is_exec_time(name: str) -> bool:
    """Return whether a variable is part of the exec-time environment."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in EXEC_TIME)


def choose_parent(
    argv: tuple[str, ...], env: Mapping[str, str], cwd: str, preload: tuple[str, ...]
) -> Parent | str:
    """Choose the parent for a kernel's command, or return why the kernel cannot be forked.

    An interpreter resolves relative and empty entries of PYTHONPATH against its working directory.
    A parent and its kernels have different working directories, so this function makes such entries
    absolute.
    """
    command = python_module(argv)
    if command is None:
        return f"only ipykernel can be forked, and this runs {argv[0]}"
    if command.module not in FORKED:
        return f"only ipykernel can be forked, and this runs {command.module}"
    if env.get("PYTHONPATH"):
        folders = env["PYTHONPATH"].split(":")
        absolute = (posixpath.join(cwd, folder) if folder else cwd for folder in folders)
        env = {**env, "PYTHONPATH": ":".join(absolute)}
    return Parent((argv[0], *command.flags), exec_time(env, whole=bool(preload)), preload)


def wants_more_files(limits: Mapping[str, float], own: tuple[int, int]) -> bool:
    """Return whether a profile's limit of open files is above the hard limit of the daemon."""
    return 0 <= own[1] < limits.get("open_files", 0)


def choose_open_files(limits: Mapping[str, float], own: tuple[int, int]) -> tuple[int, int]:
    """Choose a kernel's soft and hard limit of open files, within the daemon's hard limit.

    Parameters
    ----------
    limits : mapping
        The limits of the profile.
    own : tuple of int
        The soft and hard limit that the daemon started with; negative means unlimited. A kernel
        without a limit in its profile inherits both limits.
    """
    if "open_files" not in limits:
        return own
    limit = int(limits["open_files"])
    if own[1] >= 0:
        limit = min(limit, own[1])
    return limit, limit


def refusal_time_s(attempt_s: float) -> float:
    """Return how many seconds to wait after a refused fork before the next attempt to fork.

    The cause of a refusal may be temporary, such as a lack of memory or a server that does not
    answer. ``attempt_s`` is the duration of the refused attempt in seconds. A new attempt would
    delay another start by about this time, so slow attempts are repeated rarely. The wait ends
    early if files that the refused attempt read change on disk.
    """
    return max(MIN_REFUSAL_S, REFUSAL_PER_ATTEMPT * attempt_s)
