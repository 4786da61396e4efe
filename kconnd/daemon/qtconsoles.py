"""Opens Qt consoles for the daemon's owner, and records the exit of each console.

From the caller's environment, a console gets the variables that a window needs and no others. A
console runs in its own session, and its exit does not affect the kernel. Nobody reads a console's
output while the console runs. The end of the output is therefore kept, to explain the exit later.
"""

import asyncio
import os
import subprocess
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from kconnd.core.kernel.view import iso_time
from kconnd.core.launch.plan import User, base_environment
from kconnd.core.qtconsole_command import SESSION_VARIABLES, explain_exit, has_screen
from kconnd.errors import KconndError, UsageError
from kconnd.qtconsole_argv import qtconsole_command
from kconnd.system.process.processes import ProcessId, read_stat, wait_for_end

MAX_KEPT_CONSOLES = 20
OUTPUT_TAIL_BYTES = 2000  # the output to keep of each console


@dataclass
class QtConsole:
    """One console process."""

    kernel: str
    pid: int
    started_at: float
    code: int | None = None
    reason: str = ""
    output_tail: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the description of the console for a reply."""
        return {**vars(self), "started_at": iso_time(self.started_at)}


class QtConsoles:
    """The consoles that this daemon has opened, including consoles that have exited."""

    def __init__(self) -> None:
        self._consoles: deque[QtConsole] = deque(maxlen=MAX_KEPT_CONSOLES)
        self._watching: set[asyncio.Task[None]] = set()

    def of(self, kernel: str) -> list[dict[str, Any]]:
        """List the consoles of a kernel."""
        return [console.to_json() for console in self._consoles if console.kernel == kernel]

    def open(
        self, kernel: str, command: Sequence[str], env: Mapping[str, str], now: float
    ) -> QtConsole:
        """Spawn a console.

        Raises
        ------
        UsageError
            If the environment names no display.
        """
        if not has_screen(env):
            raise UsageError(
                f"opening a Qt console on {kernel}: the request names no display",
                hint=f"kconnd-ctl console {kernel} opens one in the terminal",
            )
        output = tempfile.TemporaryFile()  # noqa: SIM115  # closed when the console has ended
        process = subprocess.Popen(
            command,
            env=dict(env),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        console = QtConsole(kernel, process.pid, now)
        self._consoles.append(console)
        task = asyncio.get_running_loop().create_task(_watch(console, process, output, env))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)
        return console


async def _watch(
    console: QtConsole,
    process: "subprocess.Popen[bytes]",
    output: IO[bytes],
    env: Mapping[str, str],
) -> None:
    with output:
        try:
            await wait_for_end(ProcessId(process.pid, read_stat(process.pid)[2]), reap=False)
        finally:
            process.returncode = process.poll() or 0
        output.seek(max(0, output.seek(0, os.SEEK_END) - OUTPUT_TAIL_BYTES))
        console.output_tail = output.read().decode(errors="replace")
        console.code = process.returncode
        console.reason = (
            "closed" if console.code == 0 else explain_exit(console.output_tail, console.code, env)
        )


def plan_console(
    connection_file: str, options: Sequence[str], kernel: str, socket: str
) -> list[str]:
    """Build the command that opens a console; ``socket`` is the socket of the kernel's daemon.

    Raises
    ------
    KconndError
        If qtconsole or a Qt binding is not installed in the daemon's Python environment.
    """
    try:
        return qtconsole_command(connection_file, options, kernel, socket)
    except ImportError as error:
        raise KconndError(
            f"opening a Qt console: {error}", hint="kconnd-ctl console opens one in the terminal"
        ) from error


def session_environment(
    user: User, own: Mapping[str, str], requested: Mapping[str, Any]
) -> dict[str, str]:
    """Build a console's environment: the user's variables, and the request's window variables."""
    window = {name: str(requested[name]) for name in SESSION_VARIABLES if requested.get(name)}
    return base_environment(user, own, "") | window
