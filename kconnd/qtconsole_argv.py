"""Builds the command that opens a Qt console on a kernel.

The console is a program of this interpreter (`kconnd.jupyter.qtconsole_app`), which adds to
qtconsole that the kernel is interrupted and restarted through the daemon.
"""

import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence

BINDINGS = ("PySide6", "PyQt6", "PyQt5", "PySide2")


def qtconsole_command(
    path: str, options: Sequence[str], kernel: str = "", socket: str = ""
) -> list[str]:
    """Build the command that opens a qtconsole with this interpreter.

    Parameters
    ----------
    path : str
        The kernel's connection file.
    options : sequence of str
        Further arguments for qtconsole.
    kernel, socket : str
        The kernel's name, and the socket of its daemon, through which the console interrupts and
        restarts the kernel. Both are ``""`` for a kernel without a daemon; ``socket`` is also
        ``""`` for the default socket.

    Raises
    ------
    ImportError
        If qtconsole or a Qt binding is missing.
    """
    install = f"{sys.executable} -m pip install"
    if not importlib.util.find_spec("qtconsole"):
        raise ImportError(f"qtconsole is not installed: {install} qtconsole PySide6-Essentials")
    if not any(map(importlib.util.find_spec, BINDINGS)):
        raise ImportError(f"no Qt binding is installed: {install} PySide6-Essentials")
    # With -P, modules in the current folder cannot replace installed modules.
    program = [sys.executable, "-P", "-m", "kconnd.jupyter.qtconsole_app", kernel, socket]
    return [*program, "--existing", path, *options]


def option_words(options: Mapping[str, object]) -> Iterator[str]:
    """Convert Python arguments to options of a command line; a bool is a switch."""
    for name, value in options.items():
        word = name if "." in name else name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{word}" if value else f"--no-{word}"
        else:
            yield f"--{word}={value}"
