"""``kconnd-ctl qtconsole``: opens a Qt console on a kernel, on the caller's own display."""

from __future__ import annotations

import os
import subprocess
import tempfile

from kconnd.core.qtconsole_command import explain_exit, has_screen
from kconnd.errors import KconndError
from kconnd.qtconsole_argv import qtconsole_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kconnd.cli.command_line import Arguments

OUTPUT_LINES = 5  # the last lines of the console's stderr, for an error


def qtconsole(arguments: Arguments) -> int:
    """Open a Qt console and wait until its window is closed."""
    hint = f"kconnd-ctl console {arguments.name} opens a console in this terminal"
    if not has_screen(os.environ) and not arguments.json:
        raise KconndError(
            f"opening a Qt console on {arguments.name}: this session has no display", hint=hint
        )
    from kconnd.attach import readable_connection_file  # noqa: PLC0415  # --help does not need it
    from kconnd.client import name_in_reply  # noqa: PLC0415  # --help does not need it
    from kconnd.spawn import client_or_start  # noqa: PLC0415  # --help does not need it

    client = client_or_start(arguments.socket)
    kernel: dict[str, Any] = client.launch(arguments.name, body={"on_demand": True})
    try:
        file = readable_connection_file(client, kernel, arguments.name)
        name = name_in_reply(arguments.name, kernel)
        command = qtconsole_command(file, arguments.passed_words, name, arguments.socket or "")
    except ImportError as error:
        raise KconndError(f"opening a Qt console: {error}", hint=hint) from None
    if arguments.json:
        from kconnd.cli.render import print_json  # noqa: PLC0415  # for --json only

        print_json({"argv": command})
        return 0
    return _run_console(command, arguments.name, hint)


def _run_console(command: list[str], name: str, hint: str) -> int:
    with tempfile.TemporaryFile() as stderr:
        exit_code = subprocess.run(command, stderr=stderr, check=False).returncode
        stderr.seek(0)
        output = stderr.read().decode(errors="replace")
    if exit_code == 0:
        return 0
    raise KconndError(
        f"opening a Qt console on {name}: {explain_exit(output, exit_code, os.environ)}",
        hint=hint,
        output="\n".join(output.strip().splitlines()[-OUTPUT_LINES:]),
    )
