"""``kconnd-ctl qtconsole``: a Qt console on a kernel, in the caller's own session."""

from __future__ import annotations

import os
import subprocess
import tempfile

from kconnd.cli.arguments import parser
from kconnd.cli.console import split_options
from kconnd.connect import qtconsole_command
from kconnd.core.qtconsole_command import explain_end, has_screen
from kconnd.errors import KconndError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def qtconsole(arguments: list[str]) -> int:
    """Open a Qt console and wait until it is closed."""
    verb = parser(
        "qtconsole",
        "Open a Qt console on a kernel, which is started if need be, and wait until its window\n"
        "is closed. That leaves the kernel. What follows -- goes to jupyter qtconsole.",
        "kconnd-ctl qtconsole mykernel -- --style=monokai",
        '{"argv"}, the command, which is then not run',
    )
    verb.add_argument("name", metavar="NAME")
    own, more = split_options(arguments)
    given = verb.parse_args(own)
    instead = f"kconnd-ctl console {given.name} opens a console in this terminal"
    if not has_screen(os.environ) and not given.json:
        raise KconndError(
            f"opening a Qt console on {given.name}: this session has no display", hint=instead
        )
    from kconnd.attach import readable_connection_file  # noqa: PLC0415  # the same
    from kconnd.client import kernel_path  # noqa: PLC0415  # only for this
    from kconnd.spawn import client_or_start  # noqa: PLC0415  # only for this

    client = client_or_start(given.socket)
    kernel: dict[str, Any] = client.post(kernel_path(given.name, "start"), {"on_demand": True})
    try:
        file = readable_connection_file(client, kernel, given.name)
        command = qtconsole_command(file, more)
    except ImportError as error:
        raise KconndError(f"opening a Qt console: {error}", hint=instead) from None
    if given.json:
        from kconnd.cli.render import print_json  # noqa: PLC0415  # only for this

        print_json({"argv": command})
        return 0
    return _run(command, given.name, instead)


def _run(command: list[str], name: str, instead: str) -> int:
    with tempfile.TemporaryFile() as output:
        code = subprocess.run(command, stderr=output, check=False).returncode
        output.seek(0)
        said = output.read().decode(errors="replace")
    if code == 0:
        return 0
    raise KconndError(
        f"opening a Qt console on {name}: {explain_end(said, code, os.environ)}",
        hint=instead,
        output="\n".join(said.strip().splitlines()[-5:]),
    )
