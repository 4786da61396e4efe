"""``python -m kconnd.jupyter.console_app NAME SOCKET OPTION...`` runs jupyter console for kconnd.

This console is Jupyter's own console with two changes, because a kernel of kconnd outlives its
consoles. First, ``exit`` closes the console and is not sent to the kernel, which would exit and
lose its memory. Second, Ctrl-C interrupts the kernel through the daemon. SOCKET is ``""`` for the
default socket.
"""

import os
import re
import sys
from typing import Any

from jupyter_console.app import ZMQTerminalIPythonApp

from kconnd.client import Client, find_socket, kernel_path
from kconnd.core.terminal_text import clean
from kconnd.errors import KconndError

EXIT_CELL = re.compile(r"\s*(exit|quit|q)(\(\))?;?\s*")  # R has q()

_Stock: Any = ZMQTerminalIPythonApp  # the class has no type annotations


class KconndConsoleApp(_Stock):  # type: ignore[misc]  # see above
    """A terminal console that is attached to a kernel of the daemon."""

    kernel = ""
    socket = ""

    def init_shell(self) -> None:
        """Create the shell, which closes the console on ``exit``."""
        super().init_shell()
        run_cell = self.shell.run_cell

        def run_or_exit(cell: str, **options: Any) -> None:
            if is_exit(cell):
                self.shell.ask_exit()
            else:
                run_cell(cell, **options)

        self.shell.run_cell = run_or_exit

    def handle_sigint(self, *args: Any) -> None:
        """Interrupt the running cell; without a running cell, discard the input line."""
        if not self.shell._executing:  # noqa: SLF001  # the overridden method reads it, too
            super().handle_sigint(*args)
            return
        try:
            Client(find_socket(os.environ, self.socket)).post(kernel_path(self.kernel, "interrupt"))
        except KconndError as error:
            text = clean(f"kconnd-ctl: {error.message}\n  {error.hint}")
            print(text, file=sys.stderr)  # noqa: T201  # a program for the terminal


def is_exit(cell: str) -> bool:
    """Return whether a cell is a command to leave the console."""
    return EXIT_CELL.fullmatch(cell) is not None


def main() -> None:
    """Run the console."""
    KconndConsoleApp.kernel, KconndConsoleApp.socket = sys.argv[1:3]
    KconndConsoleApp.launch_instance(argv=sys.argv[3:])


if __name__ == "__main__":
    main()
