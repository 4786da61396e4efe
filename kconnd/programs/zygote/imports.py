"""Imports the modules of kernels into the zygote, and refuses modules that start threads.

A zygote forks kernels under two conditions. First, the zygote has imported the modules that a cold
kernel (a kernel that is not forked) would import. Second, no module has started a thread, because a
fork copies only the thread that forks. `PreparationError` contains the reason why no kernel can be
forked. The daemon shows the reason to the user and launches the kernels cold.

Rules. This module imports the standard library only, as `kconnd.programs.zygote.main` explains.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import warnings

TYPE_CHECKING = False  # importing typing would add a module to every kernel
if TYPE_CHECKING:
    from collections.abc import Iterable

OLDEST_IPYKERNEL = (6, 29)  # forked and cold kernels were compared with this version and later
MODULES = (
    # kernelapp, and modules that a kernel also imports between its start and its first reply.
    "ipykernel.kernelapp",
    "ipykernel.debugger",
    "ipykernel.displayhook",
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.logger",
    "IPython.core.magics",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "IPython.utils.wildcard",
    "encodings.idna",
    "faulthandler",
    "pdb",
    "sqlite3",
    "tornado.platform.asyncio",
)

# Patterns that a kernel compiles while it starts, and their flags.
PATTERNS = (
    (r"^\w(\-?\w)*$", 0),  # the name of a subcommand, in traitlets
    ("(A)", 0),  # one argument, in argparse
    ("(-*[A-]*)", 0),  # further arguments, in argparse
    (r"([^\\] )", 0),  # this pattern and the next two: IPython's completer
    (r"^[\w|\s.]+\(([^)]*)\).*", 0),
    (r"[\s|\[]*(\w+)(?:\s*=\s*.*)", 0),
    (".*Trio's signal handling code might have collided.*", re.IGNORECASE),  # a warning
)
GLOBS = ("*.py", "*.ipy")  # the startup files of a profile
THEME = "neutral"  # the default theme of IPython 9


class PreparationError(Exception):
    """The zygote cannot fork kernels; the text contains the reason."""


def import_all(modules: Iterable[str]) -> str:
    """Import ipykernel, `MODULES` and the profile's ``modules``; return ipykernel's version."""
    try:
        ipykernel = importlib.import_module("ipykernel")
    except BaseException as error:
        raise PreparationError(f"importing ipykernel: {str(error) or repr(error)}") from error
    if ipykernel.version_info[:2] < OLDEST_IPYKERNEL:
        oldest = ".".join(map(str, OLDEST_IPYKERNEL))
        raise PreparationError(f"ipykernel {ipykernel.__version__} is older than {oldest}")
    for name in MODULES:
        # Some versions of ipykernel or IPython lack one of the modules. If a kernel needs a missing
        # module, that kernel reports the error.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for name in modules:
        try:
            importlib.import_module(name)
        except BaseException as error:
            raise PreparationError(f"preloading {name}: {error!r}") from error
    fill_caches()
    return str(ipykernel.__version__)


def fill_caches() -> None:
    """Compile the patterns and load the theme that each kernel needs while it starts.

    `re` and `IPython.utils.PyColorize` cache them, so the kernels need not repeat the work. This
    saves a forked kernel 3 % of its processor time until the first reply. To measure the effect,
    let this function return at once and compare the output of ``scripts/bench --only costs``. If a
    version of these modules needs another pattern or theme, its kernels compile or load it.
    """
    for pattern, flags in PATTERNS:
        re.compile(pattern, flags)
    # Imported here, a faulty module of this name in the user's folder is named as the reason.
    fnmatch = importlib.import_module("fnmatch")
    for glob in GLOBS:
        fnmatch.filter((), glob)
    # An older IPython has no themes.
    with contextlib.suppress(ImportError, AttributeError, LookupError):
        importlib.import_module("IPython.core.completer").CompletionSplitter()
        importlib.import_module("IPython.utils.PyColorize").theme_table[THEME]


def require_one_thread() -> None:
    """Raise an error if a module has started threads, because a fork does not copy them.

    Some thread pools, such as that of OpenBLAS, are prepared for forks: they stop their threads
    before a fork, and start new threads at their next use. This function therefore forks once
    before it counts the threads.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns about a fork with several threads
        try:
            child = os.fork()
        except OSError as error:
            raise PreparationError(f"forking: {error.strerror}") from error
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    threads = os.listdir("/proc/self/task")
    if len(threads) > 1:
        count = len(threads) - 1
        raise PreparationError(
            f"preloading has started {count} threads, which a fork would not have"
        )
