"""``python -m kconnd.jupyter.qtconsole_app NAME SOCKET OPTION...`` runs a Qt console for kconnd.

NAME is the kernel's name, or ``""`` for a kernel that no daemon runs. SOCKET is the daemon's
socket, or ``""`` for the default socket. The console is Jupyter's own Qt console with three
changes. First, a connection with CURVE keys works. Second, "Interrupt" and "Restart" are sent to
the daemon. Third, a restart or the end of the kernel is shown in the window. After a restart, the
prompt begins again at ``In [1]``, and text that was typed at the prompt stays. For a kernel that no
daemon runs, the first change alone applies.

How it works. `KernelFollower` polls the daemon in a thread, and a Qt signal passes each change to
the window. Jupyter's own widget detects a restart by missed heartbeats, and requests a new prompt
from the dying process, which never answers. The widget of a kernel that the daemon runs therefore
ignores missed heartbeats and the messages of a shutdown.
"""

import functools
import sys
import threading
import types
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from qtconsole.qtconsoleapp import JupyterQtConsoleApp
from qtpy import QtCore, QtWidgets

from kconnd.core.terminal_text import clean
from kconnd.errors import KconndError
from kconnd.jupyter.console_connection import CurveConnection
from kconnd.jupyter.kernel_follower import Change, KernelFollower

EXPLAIN_AFTER_MS = 3000  # the wait for the kernel's first reply is explained after this time
RESTART_QUESTION = "Restart {}? Its variables will be gone, also for other people who use it."

_Stock: Any = JupyterQtConsoleApp  # it has no types
# qtpy exports the names of the installed Qt binding, without types.
_QObject: Any = QtCore.QObject
_Signal: Any = QtCore.Signal  # type: ignore[attr-defined]  # see above
_MessageBox: Any = QtWidgets.QMessageBox


class DaemonLink(_QObject):  # type: ignore[misc]  # see above
    """The link from the widgets of one kernel to the daemon: signals for changes, and commands.

    Parameters
    ----------
    kernel, socket : str
        See `KernelFollower`.
    """

    changed = _Signal(object)  # a Change
    refused = _Signal(str)  # why a command failed

    def __init__(self, kernel: str, socket: str) -> None:
        super().__init__()
        self.follower = KernelFollower(kernel, socket, self.changed.emit)

    def send(self, verb: str, body: Mapping[str, object] | None = None) -> None:
        """Send a command in a thread, because the daemon may take a while to reply."""

        def post() -> None:
            try:
                self.follower.post(verb, body)
            except KconndError as error:
                self.refused.emit(f"{error.message}; {error.hint}" if error.hint else error.message)

        threading.Thread(target=post, daemon=True).start()


class FollowedWidget:
    """A mixin for Jupyter's widget, for a kernel that the daemon runs."""

    link: DaemonLink

    def follow(self: Any, link: DaemonLink) -> None:
        """Send interrupts and restarts to the daemon, and show changes that the daemon reports."""
        self.link = link
        self.custom_interrupt = self.custom_restart = True
        self.custom_interrupt_requested.connect(self._interrupt)
        self.custom_restart_requested.connect(self._restart)
        link.changed.connect(self._show_change)
        link.refused.connect(self._show_line)
        QtCore.QTimer.singleShot(EXPLAIN_AFTER_MS, self._explain_wait)

    def _interrupt(self: Any) -> None:
        self.link.send("interrupt", {"wait": True})  # an interrupt without effect is an error

    def _restart(self: Any) -> None:
        kernel = self.link.follower.kernel
        if self.confirm_restart:
            buttons = _MessageBox.Yes | _MessageBox.No
            question = RESTART_QUESTION.format(kernel)
            answer = _MessageBox.question(self, "Restart kernel?", question, buttons)
            if answer != _MessageBox.Yes:
                return
        self.link.send("restart", {"wait": False})

    def _explain_wait(self: Any) -> None:
        if self._starting:
            reason = ": it is running a cell" if self.link.follower.is_busy else ""
            self._show_line(
                f"{self.link.follower.kernel} has not answered yet{reason}; "
                "the prompt appears when it does"
            )

    def _show_change(self: Any, change: Change) -> None:
        self._show_line(change.text)
        if not change.is_new_process:
            return
        if self._starting:  # the widget's first request was lost with the old process
            self.kernel_client.kernel_info()
        elif self._executing or self._prompt_requested:
            self._prompt_requested = False
            self.reset()
        else:
            self._update_prompt(1)

    def _show_line(self: Any, text: str) -> None:
        self._append_html(f"<br>{escape(clean(text))}<br>", before_prompt=True)

    # --- signs of a restart, which the daemon reports better

    def _handle_shutdown_reply(self, _message: Mapping[str, Any]) -> None:
        self.link.follower.poll_now()

    def _handle_kernel_died(self, _since_last_heartbeat: float) -> None:
        self.link.follower.poll_now()

    def _handle_status(self, _message: Mapping[str, Any]) -> None:
        """Ignore ``starting``, from which Jupyter's widget infers that the kernel has died."""


@functools.cache
def followed_class(widget_class: type) -> type:
    """Add the mixin `FollowedWidget` to a widget class; return the new class."""
    return types.new_class(f"Followed{widget_class.__name__}", (FollowedWidget, widget_class))


class KconndQtConsoleApp(CurveConnection, _Stock):  # type: ignore[misc]  # see above
    """A Qt console that is attached to a running kernel."""

    kernel = ""
    socket = ""
    widget_factory: Any

    def init_qt_elements(self) -> None:
        """Create the window with its first widget."""
        if not self.kernel:
            super().init_qt_elements()
            return
        self.link = DaemonLink(self.kernel, self.socket)
        self._with_followed_widget(super().init_qt_elements)
        self.widget.follow(self.link)
        self.link.follower.start()

    def new_frontend_slave(self, current_widget: Any) -> Any:
        """Create a further widget for the kernel of ``current_widget``."""
        if not isinstance(current_widget, FollowedWidget):
            return super().new_frontend_slave(current_widget)
        stock = super().new_frontend_slave
        widget = self._with_followed_widget(lambda: stock(current_widget))
        widget.follow(current_widget.link)
        return widget

    def _with_followed_widget(self, make: Callable[[], Any]) -> Any:
        stock = self.widget_factory
        self.widget_factory = followed_class(stock)
        try:
            return make()
        finally:
            self.widget_factory = stock


def main() -> None:
    """Run the console."""
    KconndQtConsoleApp.kernel, KconndQtConsoleApp.socket = sys.argv[1:3]
    KconndQtConsoleApp.launch_instance(argv=sys.argv[3:])


if __name__ == "__main__":
    main()
