"""Jupyter's kernel specs as values: the content of a `kernel.json`, and the folder of this file.

The format is documented in "Kernel specs" of the jupyter_client documentation. If the command of a
kernel spec begins with a name without a path, kconnd runs the program of this name of the
environment in which the kernel spec is installed. If there is none, the program is looked for on
PATH. Jupyter looks on PATH only, and for ``python`` it runs the Python of the Jupyter server.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kconnd.core.launch.kernelspec_checks import check_kernelspec

MAX_METADATA_CHARS = 4096  # of one entry
MAX_METADATA_LEVELS = 100

_FLAG = re.compile(r"-([bBdEIOPqsSuvx]+|[XW].*)")  # the options that python --help lists
_PLACEHOLDER = re.compile(r"\{([A-Za-z0-9_]+)\}")


@dataclass(frozen=True)
class KernelSpec:
    """A kernel spec, with its defaults filled in."""

    name: str
    argv: tuple[str, ...]
    language: str = ""
    display_name: str = ""
    interrupt_mode: str = "signal"
    env: Mapping[str, str] = field(default_factory=dict)
    encryptions: tuple[str, ...] = ()
    resource_dir: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """``PREFIX`` if `resource_dir` is ``PREFIX/share/jupyter/kernels/NAME``, else ``""``."""
        prefix, folder, _ = self.resource_dir.partition("/share/jupyter/kernels/")
        return prefix if folder else ""


@dataclass(frozen=True)
class PythonModule:
    """The parts of a command that runs a Python module: ``PYTHON FLAGS -m MODULE ARGS``."""

    flags: tuple[str, ...]
    module: str
    args: tuple[str, ...]


def python_module(argv: tuple[str, ...]) -> PythonModule | None:
    """Parse a command that runs a Python module; return None for any other command."""
    at = 1
    while at < len(argv) and _FLAG.fullmatch(argv[at]):
        at += 2 if argv[at] in {"-X", "-W"} else 1
    if argv[at : at + 1] != ("-m",) or len(argv) < at + 2:
        return None
    return PythonModule(argv[1:at], argv[at + 1], argv[at + 2 :])


def fill_in(argv: tuple[str, ...], values: Mapping[str, str]) -> tuple[str, ...]:
    """Replace the placeholders ``{NAME}`` of a command; an unknown placeholder stays unchanged."""
    return tuple(
        _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), word) for word in argv
    )


def parse_kernelspec(name: str, content: object, resource_dir: str = "") -> KernelSpec:
    """Parse the content of a ``kernel.json``.

    Raises
    ------
    KernelspecError
        If kconnd cannot launch a kernel from the content.
    """
    spec = check_kernelspec(content)
    metadata = spec.get("metadata", {})
    return KernelSpec(
        name=name,
        argv=tuple(spec["argv"]),
        language=spec.get("language", ""),
        display_name=spec.get("display_name", name),
        interrupt_mode=spec.get("interrupt_mode", "signal").lower(),
        env=dict(spec.get("env", {})),
        encryptions=_encryptions(metadata.get("supported_encryption")),
        resource_dir=resource_dir,
        metadata={key: value for key, value in metadata.items() if _is_portable(key, value)},
    )


def _is_portable(key: str, value: object) -> bool:
    """Return whether the daemon can send an entry of the metadata in a reply.

    An entry without this property has no meaning for kconnd, and is omitted.
    """
    try:
        text = json.dumps([key, value], ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError):  # NaN, or half a surrogate pair
        return False
    levels = text.count("[") + text.count("{")
    return len(text) <= MAX_METADATA_CHARS and levels <= MAX_METADATA_LEVELS


def _encryptions(value: object) -> tuple[str, ...]:
    """Return the names in ``supported_encryption``, which is text, a list or something unusable."""
    names = [value] if isinstance(value, str) else value
    return tuple(map(str, names)) if isinstance(names, list) else ()


PREFIX = "kconnd-"  # prefix of the kernel specs that refer to profiles of kconnd


def provisioned_spec(profile: str, shown: KernelSpec, command: str) -> dict[str, Any]:
    """Return the content of a ``kernel.json`` that makes Jupyter attach to a profile's kernel.

    Parameters
    ----------
    profile : str
        The name of the profile; ``OWNER/NAME`` for a profile that another user shares.
    shown : KernelSpec
        The values that front ends show and use: ``display_name`` without the mark of kconnd,
        ``language``, ``interrupt_mode`` and ``metadata``. With either ``interrupt_mode``, the
        provisioner sends the request for an interrupt to the daemon.
    command : str
        The command for clients without support for provisioners; it starts the kernel and exits.
    """
    return {
        "argv": [command, "start", profile],
        "display_name": f"{shown.display_name} (kconnd)",
        "language": shown.language or "python",
        "interrupt_mode": shown.interrupt_mode,
        "metadata": {
            **shown.metadata,
            "supported_encryption": "curve",
            "kernel_provisioner": {"provisioner_name": "kconnd", "config": {"profile": profile}},
        },
    }


def ipykernel_spec(python: str, encryptions: tuple[str, ...] = ()) -> KernelSpec:
    """Return a kernel spec that runs ipykernel with the interpreter ``python``."""
    return KernelSpec(
        name="python3",
        argv=(python, "-m", "ipykernel_launcher", "-f", "{connection_file}"),
        language="python",
        display_name="Python 3 (ipykernel)",
        encryptions=encryptions,
    )
