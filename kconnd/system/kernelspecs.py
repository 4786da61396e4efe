"""Find the kernel specs that a user has installed.

The search path is Jupyter's own (`jupyter_core.paths`); reading a spec is reading a JSON
file, for which jupyter_client would cost the daemon 15 MB.
"""

import json
from pathlib import Path

from jupyter_core.paths import jupyter_path

from kconnd.core.kernelspec import PYTHONS, KernelSpec, ipykernel_spec, parse_kernelspec
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
            if (folder / "kernel.json").is_file():
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
    own = Path(python).parent.parent / "share/jupyter/kernels/python3/kernel.json"
    try:
        encryptions = parse_kernelspec("python3", json.loads(own.read_bytes())).encryptions
    except (OSError, ValueError):
        encryptions = ()
    return ipykernel_spec(python, encryptions)


def interpreter_of(spec: KernelSpec) -> str:
    """Give the Python of the environment that a spec is installed in, or ``""``."""
    if not spec.prefix or spec.argv[0] not in PYTHONS:
        return ""
    python = Path(spec.prefix, "bin", spec.argv[0])
    return str(python) if python.exists() else ""
