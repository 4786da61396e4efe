"""``python -m kconnd.jupyter.console_app NAME SOCKET OPTION...`` runs jupyter console for kconnd.

It is Jupyter's own, with two things that a console on a kernel that lasts needs. Who leaves
with ``exit`` leaves the console: sent to the kernel that word would end it, and all that is in
it. And Ctrl-C interrupts the kernel, through the daemon. SOCKET is ``""`` for the usual one.
"""

import os
import re
import sys
from typing import Any

from jupyter_console.app import ZMQTerminalIPythonApp

from kconnd.client import Client, find_socket, kernel_path
from kconnd.core.terminal_text import clean
from kconnd.errors import KconndError

LEAVING = re.compile(r"\s*(exit|quit|q)(\(\))?;?\s*")  # the last is R's

_Stock: Any = ZMQTerminalIPythonApp  # it has no types


class Console(_Stock):  # type: ignore[misc]  # see above
    """A terminal on a kernel of the daemon's."""

    kernel = ""
    socket = ""

    def init_shell(self) -> None:
        """Make the shell, which knows what leaving is."""
        super().init_shell()
        run_cell = self.shell.run_cell

        def run_or_leave(cell: str, **options: Any) -> None:
            if leaves(cell):
                self.shell.ask_exit()
            else:
                run_cell(cell, **options)

        self.shell.run_cell = run_or_leave

    def handle_sigint(self, *args: Any) -> None:
        """Interrupt what the kernel runs, or else what is being typed."""
        if not self.shell._executing:  # noqa: SLF001  # as the method does that this overrides
            super().handle_sigint(*args)
            return
        try:
            Client(find_socket(os.environ, self.socket)).post(kernel_path(self.kernel, "interrupt"))
        except KconndError as error:
            said = clean(f"kconnd-ctl: {error.message}\n  {error.hint}")
            print(said, file=sys.stderr)  # noqa: T201  # it is a program of the terminal


def leaves(cell: str) -> bool:
    """Tell whether what somebody typed is there to leave the console."""
    return LEAVING.fullmatch(cell) is not None


def main() -> None:
    """Be the console."""
    Console.kernel, Console.socket = sys.argv[1:3]
    Console.launch_instance(argv=sys.argv[3:])


if __name__ == "__main__":
    main()
