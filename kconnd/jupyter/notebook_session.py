"""Describes the notebook or run for which Jupyter starts a kernel, for the daemon.

Jupyter's own kernels get the notebook's folder as their working directory, and the notebook's path
in ``JPY_SESSION_NAME``. A provisioner gets both as arguments of `pre_launch`.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyter_client.consoleapp import JupyterConsoleApp
from jupyter_client.multikernelmanager import MultiKernelManager
from jupyter_client.runapp import RunApp
from tornado.web import HTTPError

from kconnd.core.launch.notebook import SESSION_NAME, Notebook
from kconnd.system.files.file_identity import identify_file

VOILA_MARK = "VOILA_BASE_URL"


def read_notebook(arguments: Mapping[str, Any], environment: Mapping[str, str]) -> Notebook:
    """Describe the notebook of a front end.

    Parameters
    ----------
    arguments : mapping
        The arguments with which a front end starts a kernel. Without ``cwd`` among them, Jupyter
        starts its own kernels in the folder of the front end's process.
    environment : mapping
        The environment of the front end's process. A front end in a cell of a notebook, such as
        ``!papermill``, inherits the variable of that notebook, and may pass it on.
    """
    name = str((arguments.get("env") or {}).get(SESSION_NAME, ""))
    if name == environment.get(SESSION_NAME):
        name = ""
    folder = _folder(arguments.get("cwd"))
    return Notebook(folder=folder, name=name, file=identify_file(_path(folder, name)))


def _path(folder: str, name: str) -> str:
    """Return the path of a notebook's file; a name that is no path is that of a file in the folder.

    The name of a session that is no notebook, such as a console, does not lead to a file.
    """
    return str(Path(folder) / name) if name else ""


async def find_notebook(manager: Any) -> Notebook | None:
    """Find the notebook that has a kernel now, in the sessions of the Jupyter server.

    Return None if this process is no server, or if no session has the kernel. If several notebooks
    use the kernel, the result is the one that was the first.
    """
    kernels = manager.parent
    sessions: Any = getattr(getattr(kernels, "parent", None), "session_manager", None)
    try:
        session = await sessions.get_session(kernel_id=manager.kernel_id)
        path = Path(kernels.root_dir) / str(session["path"]).lstrip("/")
    except (AttributeError, KeyError, TypeError, HTTPError):
        return None
    file = await asyncio.to_thread(identify_file, str(path))
    return Notebook(folder=str(path.parent), name=str(path), file=file) if file else None


def is_run(manager: Any, arguments: Mapping[str, Any]) -> bool:
    """Return whether a kernel is for one run, such as papermill, and not for a person's notebook.

    Parameters
    ----------
    manager : KernelManager
        The kernel manager that starts the kernel. The manager of a notebook belongs to a server,
        which has a manager of many kernels, and the manager of a console to the console's
        application. Runs make a manager by itself. ``jupyter run`` is built like a console.
    arguments : mapping
        The arguments with which the kernel is started. Voilà, which is a server or a part of one,
        runs the notebook for each page, and marks the kernel's environment.
    """
    if VOILA_MARK in (arguments.get("env") or {}):
        return True
    if isinstance(manager.parent, JupyterConsoleApp):
        return isinstance(manager.parent, RunApp)
    return not isinstance(manager.parent, MultiKernelManager)


def _folder(cwd: object) -> str:
    try:
        return str(Path(str(cwd or ".")).absolute())
    except OSError:  # the folder of this process was removed
        return ""
