"""Refuses kernel specs that Jupyter refuses, and those that only another program can launch.

Each check looks at one key of a ``kernel.json`` and raises `KernelspecError` with the path of the
key, the reason and the change to make. jupyter_client (8.10 was tried) refuses a value of another
type, an unknown ``interrupt_mode`` and a missing provisioner, too. It runs a kernel spec that was
written for a Jupyter Enterprise Gateway, and the kernel then waits for arguments that only the
gateway can fill in; kconnd refuses such a spec.
"""

import re
from collections.abc import Mapping
from typing import Any

from kconnd.core.launch.json_position import KeyPath

INTERRUPT_MODES = ("signal", "message")
LOCAL_PROVISIONER = "local-provisioner"  # Jupyter's name for a program on this machine
# After a dollar, the braces are those of a variable in a shell's script.
_GATEWAY = re.compile(r"(?<!\$)\{(kernel_id|port_range|public_key|response_address)\}")
GATEWAY_HINT = (
    "start this kernel through the gateway; or install a kernel spec whose argv runs the kernel on "
    "this machine"
)
_TEXT_HINT = 'write text in quotes ("" is empty text), or remove it'
_TEXTS = ("display_name", "language", "name", "mimetype", "kernel_protocol_version")
_OBJECTS = ("env", "metadata")


class KernelspecError(ValueError):
    """A key of a kernel spec is refused.

    Parameters
    ----------
    message : str
        The key and the reason.
    path : tuple
        The keys and indexes that lead to the refused value.
    hint : str
        The change to make.
    """

    def __init__(self, message: str, path: KeyPath = (), hint: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.hint = hint


def check_kernelspec(content: object) -> Mapping[str, Any]:
    """Check the content of a ``kernel.json``, and return it.

    Raises
    ------
    KernelspecError
        If kconnd cannot launch a kernel from the content.
    """
    spec = _check_object(content, (), "the file")
    for key in _OBJECTS:
        if key in spec:
            _check_object(spec[key], (key,), key)
    for key in _TEXTS:
        if key in spec:
            _check_text(spec[key], (key,), key)
    if "resource_dir" in spec:
        hint = "remove the key: Jupyter itself fills in this folder"
        raise KernelspecError("resource_dir cannot be set", ("resource_dir",), hint)
    _check_argv(spec.get("argv"))
    for name, value in spec.get("env", {}).items():
        _check_variable(name, value)
    _check_interrupt_mode(spec.get("interrupt_mode", "signal"))
    _check_metadata(spec.get("metadata", {}))
    return spec


def _check_argv(argv: object) -> None:
    if not isinstance(argv, list) or not argv:
        hint = 'write the command as a list: ["PROGRAM", "-f", "{connection_file}"]'
        raise KernelspecError("argv is not a list of text", ("argv",), hint)
    for index, word in enumerate(argv):
        path, label = ("argv", index), f"argv[{index}]"
        _check_text(word, path, label)
        if placeholder := find_gateway_placeholder(word):
            message = f"{label}: only a gateway fills in {placeholder}"
            raise KernelspecError(message, path, GATEWAY_HINT)
    if not argv[0]:
        hint = "write the path or the name of the program"
        raise KernelspecError("argv[0] is empty", ("argv", 0), hint)


def find_gateway_placeholder(word: str) -> str:
    """Return the first placeholder that only a Jupyter Enterprise Gateway fills in, or ``""``."""
    match = _GATEWAY.search(word)
    return match[0] if match else ""


def _check_variable(name: str, value: object) -> None:
    path = ("env", name)
    if not name or "=" in name or "\0" in name:
        hint = "a name is not empty and has no '=' and no NUL"
        raise KernelspecError(f"env: {name!r} is not a name for a variable", path, hint)
    _check_text(value, path, f"env.{name}")


def _check_interrupt_mode(mode: object) -> None:
    _check_text(mode, ("interrupt_mode",), "interrupt_mode")
    if str(mode).lower() not in INTERRUPT_MODES:
        hint = 'write "signal" if SIGINT interrupts the kernel, "message" if a request does'
        message = f"interrupt_mode: {mode!r} is not one of {', '.join(INTERRUPT_MODES)}"
        raise KernelspecError(message, ("interrupt_mode",), hint)


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    if "process_proxy" in metadata:
        message = "metadata.process_proxy: it is for a Jupyter Enterprise Gateway"
        raise KernelspecError(message, ("metadata", "process_proxy"), GATEWAY_HINT)
    path: KeyPath = ("metadata", "kernel_provisioner")
    stanza = metadata.get("kernel_provisioner", {})
    provisioner = _check_object(stanza, path, ".".join(map(str, path)))
    name = provisioner.get("provisioner_name", LOCAL_PROVISIONER)
    if name != LOCAL_PROVISIONER:
        message = f"it asks for the provisioner {name!r}, which kconnd does not run"
        raise KernelspecError(message, (*path, "provisioner_name"), _provisioner_hint(provisioner))


def _provisioner_hint(provisioner: Mapping[str, Any]) -> str:
    config = provisioner.get("config")
    if provisioner["provisioner_name"] == "kconnd" and isinstance(config, Mapping):
        return f"it leads to a kernel of kconnd: kconnd-ctl start {config.get('profile')}"
    return (
        "Jupyter runs it, in an environment with the package of this provisioner; to run argv on "
        "this machine, install a kernel spec without kernel_provisioner"
    )


def _check_object(value: object, path: KeyPath, label: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        message = f"{label} is {_kind_of(value)}, and an object is needed"
        raise KernelspecError(message, path, 'write {"NAME": …}, or remove it')
    return value


def _check_text(value: object, path: KeyPath, label: str) -> None:
    """Refuse a value that is not text, and text that no process can receive (execve(2))."""
    if not isinstance(value, str):
        message = f"{label} is {_kind_of(value)}, and text is needed"
        raise KernelspecError(message, path, _TEXT_HINT)
    if "\0" in value:
        message = f"{label} holds a NUL character, which cannot be passed to a process"
        raise KernelspecError(message, path, "remove \\u0000")
    if any("\ud800" <= character <= "\udfff" for character in value):
        message = f"{label} holds half a surrogate pair, which is not a character"
        raise KernelspecError(message, path, "write the character itself, in UTF-8")


def _kind_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "text"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else "a number"
