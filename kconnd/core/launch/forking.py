"""Chooses the parent process that a kernel can be forked from, or explains why it cannot be forked.

A forked kernel must behave like a kernel that was started by exec. Its parent is a zygote
(`kconnd.programs.zygote`). The interpreter, the dynamic loader, libc and some modules read
environment variables when a process starts. In a forked kernel, the parent has already read these
variables. They are called the exec-time environment, and must have equal values in the parent and
in the kernel. Each parent therefore serves one exec-time environment. The test suite checks which
variables the modules of a kernel read during their import.
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
    "HOME",  # contains the user's own site-packages
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
OWN_PREFIX = "KCONND_"  # these variables differ for each kernel, and no module reads them
MIN_REFUSAL_S = 60.0
REFUSAL_PER_ATTEMPT = 10


@dataclass(frozen=True)
class Parent:
    """The properties of a parent process; kernels with equal properties share a parent.

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
    """Return the exec-time environment: the variables that are read at the start of a process.

    Parameters
    ----------
    env : mapping
        A kernel's environment.
    whole : bool
        Whether the parent imports modules of the user's choice, which may read any variable.
    """
    return tuple(
        sorted(
            (name, value)
            for name, value in env.items()
            if not name.startswith(OWN_PREFIX)
            and (whole or any(fnmatch.fnmatchcase(name, pattern) for pattern in EXEC_TIME))
        )
    )


def choose_parent(
    argv: tuple[str, ...], env: Mapping[str, str], cwd: str, preload: tuple[str, ...]
) -> Parent | str:
    """Choose the parent that a command can be forked from, or return the reason why it cannot be.

    An interpreter resolves relative and empty entries of PYTHONPATH against its working directory.
    A parent and its kernels have different working directories, so these entries are made absolute.
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
    """Return whether a profile sets a limit of open files above the daemon's own hard limit."""
    return 0 <= own[1] < limits.get("open_files", 0)


def choose_open_files(limits: Mapping[str, float], own: tuple[int, int]) -> tuple[int, int]:
    """Choose a kernel's soft and hard limit of open files, within the daemon's hard limit.

    Parameters
    ----------
    limits : mapping
        The limits of the profile.
    own : tuple of int
        The soft and hard limit that the daemon started with; negative means unlimited. Kernels
        without a limit in their profile inherit them.
    """
    if "open_files" not in limits:
        return own
    limit = int(limits["open_files"])
    if own[1] >= 0:
        limit = min(limit, own[1])
    return limit, limit


def refusal_time_s(attempt_s: float) -> float:
    """Return how long a refused fork is not tried again, unless files change on disk.

    The cause of a refusal may be temporary, such as a lack of memory or a server that does not
    answer. Each new attempt delays a start by ``attempt_s``, so slow attempts are repeated rarely.
    """
    return max(MIN_REFUSAL_S, REFUSAL_PER_ATTEMPT * attempt_s)
