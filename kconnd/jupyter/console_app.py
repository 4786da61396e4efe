"""``python -m kconnd.jupyter.console_app NAME SOCKET OPTION...`` runs jupyter console for kconnd.

NAME is the kernel's name. SOCKET is the daemon's socket, or ``""`` for the default socket. The
console is Jupyter's own console with four changes. First, ``exit`` closes the console and is not
sent to the kernel. If it were sent, the kernel would exit and lose its memory. Second, Ctrl-C
interrupts the kernel through the daemon. Third, a connection with CURVE keys works. Fourth, the
console prints a restart or the end of the kernel above the prompt.

How a cell ends after a restart. Jupyter's console waits for the reply to the cell, and gives up if
the kernel misses heartbeats. During a quick restart, no heartbeat is missed, so the wait for the
reply to a lost cell would not end. The console therefore sends ``kernel_info_request`` after each
restart that occurs while a cell runs. If the cell was lost with the old process, the reply to this
request ends the wait. If the new process runs the cell, the reply to the cell arrives first,
because a kernel answers requests in order.

How the next cell begins after a restart. Jupyter's console waits for the status ``idle`` of each
cell on iopub, and a message is lost if the kernel publishes it before iopub has reconnected. The
first cell after a restart is therefore not sent until a message of the new process has arrived on
iopub, or `IOPUB_TIMEOUT_S` has passed.
"""

import contextlib
import re
import sys
import threading
import time
from queue import Empty
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_console.app import ZMQTerminalIPythonApp
from prompt_toolkit.patch_stdout import patch_stdout

from kconnd.core.terminal_text import clean
from kconnd.errors import KconndError
from kconnd.jupyter.console_connection import CurveConnection
from kconnd.jupyter.kernel_follower import Change, KernelFollower

EXIT_CELL = re.compile(r"\s*(exit|quit|q)(\(\))?;?\s*")  # R has q()
EXPLAIN_AFTER_S = 2.0  # the wait for the kernel's first reply is explained after this time
IOPUB_TIMEOUT_S, IOPUB_RETRY_S = 5.0, 0.2  # for the first message of a new process on iopub
INFO_TIMEOUT_S = 1.0  # for the reply of a kernel that has just finished a cell
INTERRUPTED_STATUS = 130  # the exit status of a program that Ctrl-C has ended

_Stock: Any = ZMQTerminalIPythonApp  # the class has no type annotations
_StockClient: Any = BlockingKernelClient  # its annotations do not fit its callers


class ConsoleClient(_StockClient):  # type: ignore[misc]  # see above
    """A client that asks the daemon whether the kernel is alive.

    If the daemon does not answer, the client checks the kernel's heartbeat instead.
    """

    follower: KernelFollower | None = None

    def is_alive(self) -> bool:
        """Return whether the kernel has a process or is about to get a new process."""
        ended = self.follower.has_ended if self.follower else None
        return bool(super().is_alive()) if ended is None else not ended


class KconndConsoleApp(CurveConnection, _Stock):  # type: ignore[misc]  # see above
    """A terminal console that is attached to a kernel of the daemon."""

    kernel = ""
    socket = ""
    kernel_client_class = ConsoleClient
    shell: Any = None

    def init_shell(self) -> None:
        """Wait until the kernel has answered, and create the shell."""
        self._pending_info = ""  # the id of this class's last kernel_info_request
        self._replaced = threading.Event()  # set when a new process replaces one during a cell
        self._unheard = threading.Event()  # set until a new process is heard on iopub
        self.follower = KernelFollower(self.kernel, self.socket, self.report)
        self.follower.start()
        timer = threading.Timer(EXPLAIN_AFTER_S, self._explain_wait)
        timer.daemon = True
        timer.start()
        try:
            super().init_shell()
        except RuntimeError as error:
            tell(f"opening a console on {self.kernel}: {error}\n  {self._hint()}")
            self.exit(1)
        finally:
            timer.cancel()
        self.kernel_client.follower = self.follower
        self._adapt_shell(self.shell)

    def _explain_wait(self) -> None:
        tell(f"{self.kernel} has not answered yet{self._why_silent()}; Ctrl-C ends the wait")

    def _why_silent(self) -> str:
        return ": it is running a cell" if self.follower.is_busy else ""

    def _hint(self) -> str:
        if self.follower.is_busy:
            return f"it is running a cell; kconnd-ctl interrupt {self.kernel} interrupts it"
        return f"kconnd-ctl info {self.kernel} shows its state"

    def _adapt_shell(self, shell: Any) -> None:
        """Replace those methods of Jupyter's shell that do not fit a kernel of a daemon."""
        stock_run_cell, stock_prompt = shell.run_cell, shell.prompt_for_code
        stock_input = shell.handle_input_request

        def run_cell(cell: str, **options: Any) -> None:
            if is_exit(cell):
                shell.ask_exit()
                return
            self._await_iopub()
            stock_run_cell(cell, **options)
            self._drop_replies()

        async def prompt_for_code() -> Any:
            with patch_stdout(raw=True):  # lets other threads print above the prompt
                return await stock_prompt()

        def handle_input_request(*args: Any, **options: Any) -> Any:
            """Handle a request for input if there is one; called every 50 ms while a cell runs."""
            if self._replaced.is_set():
                self._replaced.clear()
                self._pending_info = shell.client.kernel_info()
            return stock_input(*args, **options)

        shell.run_cell, shell.prompt_for_code = run_cell, prompt_for_code
        shell.handle_input_request = handle_input_request

    def _await_iopub(self) -> None:
        """Wait until messages of a new process arrive on iopub, at most `IOPUB_TIMEOUT_S`."""
        if not self._unheard.is_set():
            return
        self._unheard.clear()
        client, deadline = self.shell.client, time.monotonic() + IOPUB_TIMEOUT_S
        while time.monotonic() < deadline:
            self._pending_info = client.kernel_info()
            with contextlib.suppress(Empty):
                client.get_iopub_msg(timeout=IOPUB_RETRY_S)
                break
        self._drop_replies()

    def _drop_replies(self) -> None:
        """Receive the reply to this class's own request, so that the shell cannot get it."""
        pending, self._pending_info = self._pending_info, ""
        with contextlib.suppress(Empty):
            while pending:
                reply = self.shell.client.get_shell_msg(timeout=INFO_TIMEOUT_S)
                if reply["parent_header"].get("msg_id") == pending:
                    return

    def report(self, change: Change) -> None:
        """Print a change of the kernel; after a restart, number the prompts from ``In [1]`` on."""
        tell(change.text)
        if change.is_new_process and self.shell is not None:
            executing = self.shell._executing  # noqa: SLF001  # the stock class reads it, too
            (self._replaced if executing else self._unheard).set()
            self.shell.execution_count = 1
            if app := getattr(self.shell.pt_cli, "app", None):
                app.invalidate()

    def handle_sigint(self, *args: Any) -> None:
        """Interrupt the running cell; without a running cell, discard the input line."""
        if self.shell is None:
            raise KeyboardInterrupt  # the kernel has not answered yet
        if not self.shell._executing:  # noqa: SLF001  # the overridden method reads it, too
            super().handle_sigint(*args)
            return
        threading.Thread(target=self._interrupt, daemon=True).start()

    def _interrupt(self) -> None:
        """Interrupt the kernel; print an error, also if the cell goes on."""
        try:
            self.follower.post("interrupt", {"wait": True})
        except KconndError as error:
            tell(f"{error.message}\n  {error.hint}")


def tell(text: str) -> None:
    """Print a message, filtered because it can contain text from another user's daemon."""
    print(clean(f"kconnd-ctl: {text}"), file=sys.stderr)  # noqa: T201  # a program for the terminal


def is_exit(cell: str) -> bool:
    """Return whether a cell consists of a command to leave the console."""
    return EXIT_CELL.fullmatch(cell) is not None


def main() -> None:
    """Run the console."""
    KconndConsoleApp.kernel, KconndConsoleApp.socket = sys.argv[1:3]
    try:
        KconndConsoleApp.launch_instance(argv=sys.argv[3:])
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED_STATUS)


if __name__ == "__main__":
    main()
