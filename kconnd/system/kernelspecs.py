"""Find the kernel specs that a user has installed.

The search path is Jupyter's own (`jupyter_core.paths`); reading a spec is reading a JSON
file, for which jupyter_client would cost the daemon 15 MB. Any folder of the path can be on a file
server that hangs, and any file in it can be anything: so each step is announced to ``begin`` (see
`kconnd.system.hung_calls`), and only regular files of a bounded size are read.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_path

from kconnd.core.launch.kernelspec_file import (
    PREFIX,
    KernelSpec,
    ipykernel_spec,
    is_bare_python,
    parse_kernelspec,
)
from kconnd.errors import StartFailedError
from kconnd.system.files.regular import read_regular
from kconnd.system.hung_calls import BeginStep, StuckError, ignore_step

MAX_KERNELSPEC_BYTES = 1 << 20


def installed_names(
    begin: BeginStep = ignore_step, stuck: list[StuckError] | None = None
) -> dict[str, Path]:
    """List installed kernel specs by name; the first on the search path wins.

    Parameters
    ----------
    begin : callable
        Gets each step.
    stuck : list, optional
        Gets what kept a folder from being read that hangs; it is left out.
    """
    found: dict[str, Path] = {}
    for root in map(Path, jupyter_path("kernels")):
        try:
            begin(f"looking for kernel specs in {root}")
            folders = sorted(root.iterdir())
            named = [folder for folder in folders if _has_spec(folder)]
        except StuckError as error:
            if stuck is not None:
                stuck.append(error)
            continue
        except OSError:
            continue
        for folder in named:
            found.setdefault(folder.name.lower(), folder)
    return found


def _has_spec(folder: Path) -> bool:
    """Tell whether there is a kernel spec, and not one that we made for Jupyter."""
    leads_here = folder.name.lower().startswith(PREFIX)
    return not leads_here and (folder / "kernel.json").is_file()


def read_kernelspec(name: str, begin: BeginStep = ignore_step) -> KernelSpec:
    """Read one installed kernel spec.

    Raises
    ------
    StartFailedError
        If there is none of that name, or it cannot be read.
    StuckError
        If it may be where a disk or file server does not answer.
    """
    stuck: list[StuckError] = []
    folders = installed_names(begin, stuck)
    folder = folders.get(name.lower())
    if folder is None and stuck:
        raise stuck[0]
    if folder is None:
        known = ", ".join(folders) or "none"
        places = ", ".join(jupyter_path("kernels"))
        raise StartFailedError(
            f"looking for the kernel spec {name!r}: none of that name is installed",
            hint=f"installed: {known}; searched: {places}",
        )
    begin(f"reading the kernel spec {folder}")
    try:
        return parse_kernelspec(folder.name, _content(folder), str(folder))
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise StartFailedError(
            f"reading the kernel spec {folder}: {error}", hint="install the kernel spec again"
        ) from error


def _content(folder: Path) -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads(
        read_regular(folder / "kernel.json", MAX_KERNELSPEC_BYTES)
    )
    return content


def python_spec(python: str, begin: BeginStep = ignore_step) -> KernelSpec:
    """Give the spec for ipykernel in an interpreter; what it can is read off its environment."""
    folder = Path(python).parent.parent / "share/jupyter/kernels/python3"
    begin(f"reading the kernel spec {folder}")
    try:
        encryptions = parse_kernelspec("python3", _content(folder)).encryptions
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return ipykernel_spec(python)
    return replace(ipykernel_spec(python, encryptions), resource_dir=str(folder))


def interpreter_of(spec: KernelSpec) -> str:
    """Give the Python of the environment that a spec is installed in, or ``""``."""
    if not spec.prefix or not is_bare_python(spec.argv[0]):
        return ""
    python = Path(spec.prefix, "bin", spec.argv[0])
    return str(python) if python.exists() else ""
