"""Builds the code that gives a script on a Python kernel its ``sys.argv`` and ``__file__``.

How it works. The script itself is sent unchanged, so line numbers, ``await`` and magic commands
work as in a cell. A preparation, which this module builds, is executed silently before the script,
and binds no name in the namespace of the user. The preparation registers two callbacks with
IPython. The first callback runs before each cell: if the request of the cell is from the script's
session, the callback sets ``sys.argv`` and ``__file__``. The second callback restores both values
after the script's cell. Cells of other clients therefore never see the changed values, even if
another client runs the same script with other arguments at the same time.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_PREPARATION = """\
import sys

class Script:
    MISSING = object()

    def __init__(self, shell, namespace, session, path, argv):
        self.shell, self.namespace, self.session = shell, namespace, session
        self.get_request = shell.kernel.get_parent
        self.path, self.argv, self.runs = path, argv, False
        shell.events.register("pre_run_cell", self.enter)
        shell.events.register("post_run_cell", self.leave)

    def enter(self, info):
        request = self.get_request() or {}
        if self.runs or request.get("header", {}).get("session") != self.session:
            return
        self.runs, self.old_argv = True, sys.argv
        self.old_path = self.namespace.get("__file__", self.MISSING)
        sys.argv, self.namespace["__file__"] = self.argv, self.path

    def leave(self, result):
        if not self.runs:
            return
        self.shell.events.unregister("pre_run_cell", self.enter)
        self.shell.events.unregister("post_run_cell", self.leave)
        sys.argv = self.old_argv
        if self.old_path is self.MISSING:
            self.namespace.pop("__file__", None)
        else:
            self.namespace["__file__"] = self.old_path

Script(shell, namespace, session, path, argv)
"""


def script_preparation(session: str, path: str, argv: Sequence[str]) -> str:
    """Return the preparation for a script: the code to execute before the script.

    Parameters
    ----------
    session : str
        The id of the session that executes the script, as in the headers of its requests. The
        session executes nothing between this code and the script.
    path : str
        The script's ``__file__``.
    argv : sequence of str
        The script's ``sys.argv``.
    """
    names = {"session": session, "path": path, "argv": list(argv)}
    return f"exec({_PREPARATION!r}, {{'shell': get_ipython(), 'namespace': globals()}} | {names!r})"
