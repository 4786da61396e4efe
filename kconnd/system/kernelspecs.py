"""Find the kernel specs that a user has installed.

The search path is Jupyter's own (`jupyter_core.paths`); reading a spec is reading a JSON
file, for which jupyter_client would cost the daemon 15 MB.
"""

import json
from dataclasses import replace
from pathlib import Path

from jupyter_core.paths import jupyter_path

from kconnd.core.kernelspec import (
    PREFIX,
    KernelSpec,
    ipykernel_spec,
    is_bare_python,
    parse_kernelspec,
)
from kconnd.errors import StartFailedError


def installed_names() -> dict[str, Path]:
    """List installed kernel specs by name; the first on the search path wins."""
    found: dict[str, Path] = {}
    for root in map(Path, jupyter_path("kernels")):
        try:
            folders = sorted(root.iterdir())
        except OSError:
            continue
        for folder in folders:
            leads_here = folder.name.lower().startswith(PREFIX)  # made for Jupyter, by us
            if not leads_here and (folder / "kernel.json").is_file():
                found.setdefault(folder.name.lower(), folder)
    return found


def read_kernelspec(name: str) -> KernelSpec:
    """Read one installed kernel spec.

    Raises
    ------
    StartFailedError
        If there is none of that name, or it cannot be read.
    """
    folders = installed_names()
    folder = folders.get(name.lower())
    if folder is None:
        known = ", ".join(folders) or "none"
        places = ", ".join(jupyter_path("kernels"))
        raise StartFailedError(
            f"looking for the kernel spec {name!r}: none of that name is installed",
            hint=f"installed: {known}; searched: {places}",
        )
    try:
        content = json.loads((folder / "kernel.json").read_bytes())
        return parse_kernelspec(folder.name, content, str(folder))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise StartFailedError(
            f"reading the kernel spec {folder}: {error}", hint="install the kernel spec again"
        ) from error


def python_spec(python: str) -> KernelSpec:
    """Give the spec for ipykernel in an interpreter; what it can is read off its environment."""
    folder = Path(python).parent.parent / "share/jupyter/kernels/python3"
    try:
        content = json.loads((folder / "kernel.json").read_bytes())
        encryptions = parse_kernelspec("python3", content).encryptions
    except (OSError, ValueError):
        return ipykernel_spec(python)
    return replace(ipykernel_spec(python, encryptions), resource_dir=str(folder))


def interpreter_of(spec: KernelSpec) -> str:
    """Give the Python of the environment that a spec is installed in, or ``""``."""
    if not spec.prefix or not is_bare_python(spec.argv[0]):
        return ""
    python = Path(spec.prefix, "bin", spec.argv[0])
    return str(python) if python.exists() else ""
