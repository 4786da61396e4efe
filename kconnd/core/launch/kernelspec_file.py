"""Jupyter's kernel specs, as values: what `kernel.json` says and where it was found.

Source of the format: "Kernel specs" in the jupyter_client documentation. Rule: a bare
``python`` in a spec means the Python of the place where the spec is installed, not the
daemon's own, which is what Jupyter takes it for.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Modules that run a kernel proved to speak ipc: tests/end_to_end starts each of them so.
SPEAKS_IPC = frozenset({"ipykernel", "ipykernel_launcher", "bash_kernel"})
_FLAG = re.compile(r"-([bBdEIOPqsSuvx]+|[XW].*)")  # what may stand before -m: python --help
_PYTHON = re.compile(r"python(\d(\.\d+)?)?")


def is_bare_python(word: str) -> bool:
    """Tell whether a command's first word is a Python without a place: that of its spec's."""
    return _PYTHON.fullmatch(word) is not None


@dataclass(frozen=True)
class KernelSpec:
    """What a launcher has to know about a kind of kernel."""

    name: str
    argv: tuple[str, ...]
    language: str = ""
    display_name: str = ""
    interrupt_mode: str = "signal"
    env: Mapping[str, str] = field(default_factory=dict)
    encryptions: tuple[str, ...] = ()
    resource_dir: str = ""

    @property
    def speaks_ipc(self) -> bool:
        """Whether this kernel is known to work with the ipc transport."""
        found = python_module(self.argv)
        return found is not None and found.module in SPEAKS_IPC

    @property
    def prefix(self) -> str:
        """The installation prefix, where the spec is at ``PREFIX/share/jupyter/kernels/NAME``."""
        prefix, found, _ = self.resource_dir.partition("/share/jupyter/kernels/")
        return prefix if found else ""


@dataclass(frozen=True)
class PythonModule:
    """The parts of a command that runs a Python module: ``PYTHON FLAGS -m MODULE ARGS``."""

    flags: tuple[str, ...]
    module: str
    args: tuple[str, ...]


def python_module(argv: tuple[str, ...]) -> PythonModule | None:
    """Take apart a command that runs a Python module; None where it does something else."""
    at = 1
    while at < len(argv) and _FLAG.fullmatch(argv[at]):
        at += 2 if argv[at] in {"-X", "-W"} else 1
    if argv[at : at + 1] != ("-m",) or len(argv) < at + 2:
        return None
    return PythonModule(argv[1:at], argv[at + 1], argv[at + 2 :])


def parse_kernelspec(name: str, content: Mapping[str, Any], resource_dir: str = "") -> KernelSpec:
    """Read the content of a ``kernel.json``.

    Raises
    ------
    ValueError
        If it has no usable ``argv``.
    """
    argv = content.get("argv")
    if not isinstance(argv, list) or not argv or not all(isinstance(arg, str) for arg in argv):
        raise ValueError("argv is not a list of text")
    metadata = content.get("metadata") or {}
    encryptions = metadata.get("supported_encryption") or ()
    return KernelSpec(
        name=name,
        argv=tuple(argv),
        language=str(content.get("language", "")),
        display_name=str(content.get("display_name", name)),
        interrupt_mode=str(content.get("interrupt_mode", "signal")),
        env={str(key): str(value) for key, value in (content.get("env") or {}).items()},
        encryptions=(encryptions,) if isinstance(encryptions, str) else tuple(encryptions),
        resource_dir=resource_dir,
    )


PREFIX = "kconnd-"  # of the names of specs that lead to profiles of ours


def provisioned_spec(profile: str, language: str, command: str) -> dict[str, Any]:
    """Give the content of a ``kernel.json`` by which Jupyter attaches to a profile's kernel.

    Parameters
    ----------
    profile : str
        Its name; ``OWNER/NAME`` for one that another user shares.
    language : str
        What the kernel runs.
    command : str
        What a client that knows nothing of provisioners runs: it starts the kernel and ends.
    """
    return {
        "argv": [command, "start", profile],
        "display_name": f"{profile} (kconnd)",
        "language": language or "python",
        "interrupt_mode": "signal",  # it then asks the provisioner, which asks the daemon
        "metadata": {
            "supported_encryption": "curve",
            "kernel_provisioner": {"provisioner_name": "kconnd", "config": {"profile": profile}},
        },
    }


def ipykernel_spec(python: str, encryptions: tuple[str, ...] = ()) -> KernelSpec:
    """Give the spec for ipykernel run by this interpreter."""
    return KernelSpec(
        name="python3",
        argv=(python, "-m", "ipykernel_launcher", "-f", "{connection_file}"),
        language="python",
        display_name="Python 3 (ipykernel)",
        encryptions=encryptions,
    )
