"""``kconnd-ctl console``: replaces this process with a terminal console on a kernel."""

from __future__ import annotations

import os
import shutil
import sys

from kconnd.client import name_in_reply
from kconnd.errors import KconndError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kconnd.cli.command_line import Arguments


def console(arguments: Arguments) -> int:
    """Start the kernel if necessary, and replace this process with a console."""
    from kconnd.attach import readable_connection_file  # noqa: PLC0415  # --help does not need it
    from kconnd.spawn import client_or_start  # noqa: PLC0415  # --help does not need it

    client = client_or_start(arguments.socket)
    kernel: dict[str, Any] = client.launch(arguments.name, body={"on_demand": True})
    file = readable_connection_file(client, kernel, arguments.name)
    encrypted = bool((kernel["connection"] or {}).get("encrypted"))
    name = name_in_reply(arguments.name, kernel)
    command = find_console(name, arguments.socket, encrypted=encrypted)
    command += ["--existing", file, *arguments.passed_words]
    if not arguments.json:
        os.execv(command[0], command)  # noqa: S606  # the console takes over the terminal
    from kconnd.cli.render import print_json  # noqa: PLC0415  # for --json only

    print_json({"name": kernel["name"], "connection_file": file, "command": command})
    return 0


def find_console(name: str, socket: str = "", *, encrypted: bool = False) -> list[str]:
    """Build the command that opens a console.

    If jupyter_console is installed for this interpreter, the command runs
    `kconnd.jupyter.console_app`. Otherwise, the command runs ``jupyter-console`` from the PATH,
    which cannot use an encrypted connection.

    Raises
    ------
    KconndError
        If jupyter_console is not installed, or if the installed one cannot attach to the kernel.
    """
    from importlib.util import find_spec  # noqa: PLC0415  # --help does not need it

    if find_spec("jupyter_console"):
        # With -P, modules in the current folder cannot replace installed modules.
        return [sys.executable, "-P", "-m", "kconnd.jupyter.console_app", name, socket or ""]
    program = shutil.which("jupyter-console")
    install = f"{sys.executable} -m pip install jupyter_console"
    if program and encrypted:
        raise KconndError(
            f"opening a console on {name}: its connection is encrypted (CURVE), and {program} does "
            "not use the keys",
            hint=install,
        )
    if program:
        print("kconnd-ctl: leave the console with Ctrl-D: 'exit' stops the kernel", file=sys.stderr)
        return [program]
    raise KconndError(
        "opening a console: jupyter console is not installed",
        hint=install,
    )
