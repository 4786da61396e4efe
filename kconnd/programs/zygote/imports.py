"""Imports the modules of kernels into the zygote, and refuses modules that start threads.

A zygote forks kernels under two conditions: it has imported the modules of a cold kernel, and no
module has started a thread. A fork copies only one thread. `PreparationError` contains the reason
why no kernel can be forked. The daemon shows the reason to the user and launches the kernels cold.

Rules. This module imports the standard library only, as `kconnd.programs.zygote.main` explains.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import warnings

TYPE_CHECKING = False  # an import of typing would add it to the modules of every kernel
if TYPE_CHECKING:
    from collections.abc import Iterable

OLDEST_IPYKERNEL = (6, 29)  # forked and cold kernels were compared from this version on
MODULES = (
    # A kernel imports these modules between its start and its first reply, besides kernelapp.
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


class PreparationError(Exception):
    """The interpreter cannot fork kernels; the text contains the reason."""


def import_all(modules: Iterable[str]) -> str:
    """Import ipykernel and the modules in the profile; return ipykernel's version."""
    try:
        ipykernel = importlib.import_module("ipykernel")
    except BaseException as error:
        raise PreparationError(f"importing ipykernel: {str(error) or repr(error)}") from error
    if ipykernel.version_info[:2] < OLDEST_IPYKERNEL:
        oldest = ".".join(map(str, OLDEST_IPYKERNEL))
        raise PreparationError(f"ipykernel {ipykernel.__version__} is older than {oldest}")
    for name in MODULES:
        # Other versions of ipykernel or IPython may lack the module. A kernel that needs it reports
        # the error.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for name in modules:
        try:
            importlib.import_module(name)
        except BaseException as error:
            raise PreparationError(f"preloading {name}: {error!r}") from error
    return str(ipykernel.__version__)


def require_one_thread() -> None:
    """Raise an error if a module has started threads, because a fork does not copy threads.

    Thread pools that handle forks, such as that of OpenBLAS, stop their threads before a fork and
    start new threads at their next use. The threads are therefore counted after a first fork.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns if the process has threads
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
