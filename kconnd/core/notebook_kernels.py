"""Decides which kernel of a per-session profile belongs to a notebook, and names new ones.

A notebook is identified by its file, not by its path (`kconnd.system.files.file_identity`). It
keeps its kernel when it is renamed or moved, and a copy, or another file under its old name, gets a
kernel of its own. A file that is replaced, as by ``git checkout``, is another file; but while a
server has the notebook open, the provisioner tells the daemon which file the notebook is in now.

Rule: where the file does not decide, the notebook gets a new kernel and not somebody else's. So
does a notebook that is no file of this machine, and a console of JupyterLab. The only exception are
kernels without a recorded file, which an earlier version of kconnd or a user has started under the
name that belongs to the notebook.

All functions are pure.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from kconnd.core.launch.notebook import Notebook

MAX_STEM_CHARS = 30  # how much of a notebook's name is in the name of its kernel
ID_CHARS = 8  # how much of Jupyter's kernel id is in the name of a kernel without a notebook
DIGEST_CHARS = 6


def choose_instance(
    notebook: Notebook, kernel_id: str, kernels: Mapping[str, Notebook | None]
) -> str:
    """Return the instance name of a notebook's kernel: that of its own kernel, or a new one.

    Parameters
    ----------
    notebook : Notebook
        The notebook that a front end opens, or a run.
    kernel_id : str
        Jupyter's id of the kernel, which is new for each start.
    kernels : mapping
        The notebooks for which the kernels of the profile were started, by instance; None for a
        kernel that was started without one.
    """
    if not notebook.name:
        return f"run-{kernel_id[:ID_CHARS]}"
    own = [name for name, other in kernels.items() if _file(other) == notebook.file]
    if notebook.file and len(own) == 1:
        return own[0]
    first = instance_name(notebook.name, notebook.file or kernel_id)
    inherited = (instance_name(notebook.name, notebook.name), first)
    for name in inherited if notebook.file else ():
        if name in kernels and not _file(kernels[name]):
            return name
    return first if first not in kernels else instance_name(notebook.name, kernel_id)


def notebooks_of(profile: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, Notebook | None]:
    """Return the notebooks of a profile's kernels by instance, from the daemon's list."""
    notebooks: dict[str, Notebook | None] = {}
    for row in rows:
        base, _, instance = row["name"].partition("@")
        if base == profile and instance:
            # Daemons of earlier versions do not know the notebook.
            shown = row.get("notebook")
            notebooks[instance] = (
                Notebook(shown["folder"], shown["path"], shown["file"]) if shown else None
            )
    return notebooks


def _file(notebook: Notebook | None) -> str:
    return notebook.file if notebook is not None else ""


def instance_name(path: str, key: str) -> str:
    """Build a valid instance name from a notebook's name and a digest of what identifies it."""
    base = path.rstrip("/").rpartition("/")[2]
    name = base.rpartition(".")[0] or base
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:MAX_STEM_CHARS]
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_CHARS]
    return f"{stem}-{digest}" if stem else f"session-{digest}"
