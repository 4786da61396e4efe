"""Builds the code that gives a script on a Python kernel its ``sys.argv`` and ``__file__``.

How it works. The script itself is sent unchanged, so line numbers, ``await`` and magic commands
work as in a cell. The code of this module is executed silently before the script, and binds no
name. The code registers two callbacks of IPython. The first callback runs before each cell: if the
text of the cell is the script, it sets ``sys.argv`` and ``__file__``. The second callback restores
both after this cell. Cells of other clients therefore never see the changed values.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_PREPARATION = """\
import sys

class Script:
    MISSING = object()

    def __init__(self, shell, namespace, code, path, argv):
        self.shell, self.namespace, self.code = shell, namespace, code
        self.path, self.argv, self.runs = path, argv, False
        shell.events.register("pre_run_cell", self.enter)
        shell.events.register("post_run_cell", self.leave)

    def enter(self, info):
        if self.runs or info.raw_cell != self.code:
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

Script(shell, namespace, code, path, argv)
"""


def script_preparation(code: str, path: str, arguments: Sequence[str]) -> str:
    """Return the code that is executed before a script.

    Parameters
    ----------
    code : str
        The script.
    path : str
        The path of the script as the user wrote it; ``-`` for stdin.
    arguments : sequence of str
        The arguments of the script.
    """
    names = {"code": code, "path": path, "argv": [path, *arguments]}
    return f"exec({_PREPARATION!r}, {{'shell': get_ipython(), 'namespace': globals()}} | {names!r})"
