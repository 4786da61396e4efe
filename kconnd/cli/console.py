"""``kconnd-ctl console``: become a terminal console on a kernel."""

from __future__ import annotations

import os
import shutil
import sys

from kconnd.cli.arguments import parser
from kconnd.client import kernel_path
from kconnd.errors import KconndError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def console(arguments: list[str]) -> int:
    """Start the kernel if need be, and become ``jupyter console`` on it."""
    verb = parser(
        "console",
        "Open a terminal console on a kernel, which is started if need be. Leaving the console,\n"
        "with exit or Ctrl-D, leaves the kernel. What follows -- goes to jupyter console.",
        "kconnd-ctl console mykernel -- --simple-prompt",
        '{"name", "connection_file", "command": [WORD]}, and the console is not run',
    )
    verb.add_argument("name", metavar="NAME")
    own, more = split_options(arguments)
    given = verb.parse_args(own)
    from kconnd.attach import readable_connection_file  # noqa: PLC0415  # the same
    from kconnd.spawn import client_or_start  # noqa: PLC0415  # only for this

    client = client_or_start(given.socket)
    kernel: dict[str, Any] = client.post(kernel_path(given.name, "start"), {"on_demand": True})
    file = readable_connection_file(client, kernel, given.name)
    command = [*find_console(given.name, given.socket), "--existing", file, *more]
    if not given.json:
        os.execv(command[0], command)  # noqa: S606  # becoming it is the point
    from kconnd.cli.render import print_json  # noqa: PLC0415  # only for this

    print_json({"name": kernel["name"], "connection_file": file, "command": command})
    return 0


def split_options(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Part our own arguments from those for the program that is started, at ``--``."""
    if "--" not in arguments:
        return arguments, []
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


def find_console(name: str, socket: str = "") -> list[str]:
    """Find a console: ours, where this interpreter has Jupyter's, or else one on the PATH.

    Raises
    ------
    KconndError
        If there is none.
    """
    from importlib.util import find_spec  # noqa: PLC0415  # only for this

    if find_spec("jupyter_console"):
        # -P: a module in the folder that somebody stands in is not taken for one of these.
        return [sys.executable, "-P", "-m", "kconnd.jupyter.console_app", name, socket or ""]
    found = shutil.which("jupyter-console")
    if found:
        print("kconnd-ctl: leave it with Ctrl-D: 'exit' would end the kernel", file=sys.stderr)
        return [found]
    raise KconndError(
        "opening a console: jupyter console is not installed",
        hint=f"{sys.executable} -m pip install jupyter_console",
    )
