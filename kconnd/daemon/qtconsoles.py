"""Qt consoles that the daemon opened for its owner: which run, and how the others ended.

Rules. A console gets nothing of the caller's environment but what a window needs; it is a
process of its own session, and its end touches no kernel. Its output is kept, since nobody
reads it while it runs.
"""

import asyncio
import os
import subprocess
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from kconnd.connect import qtconsole_command
from kconnd.core.kernel.view import iso_time
from kconnd.core.launch.plan import User, base_environment
from kconnd.core.qtconsole_command import SESSION_VARIABLES, explain_exit, has_screen
from kconnd.errors import KconndError, UsageError
from kconnd.system.process.processes import ProcessId, read_stat, wait_for_end

KEPT = 20  # consoles that are remembered
TAIL = 2000  # bytes of output that are kept of each


@dataclass
class Console:
    """One console."""

    kernel: str
    pid: int
    started_at: float
    code: int | None = None
    reason: str = ""
    output_tail: str = ""

    def to_json(self) -> dict[str, Any]:
        """Give it as a reply has it."""
        return {**vars(self), "started_at": iso_time(self.started_at)}


class Consoles:
    """The consoles that this daemon opened."""

    def __init__(self) -> None:
        self._known: deque[Console] = deque(maxlen=KEPT)
        self._watching: set[asyncio.Task[None]] = set()

    def of(self, kernel: str) -> list[dict[str, Any]]:
        """List those on a kernel."""
        return [console.to_json() for console in self._known if console.kernel == kernel]

    def open(
        self, kernel: str, command: Sequence[str], env: Mapping[str, str], now: float
    ) -> Console:
        """Open one.

        Raises
        ------
        UsageError
            If the environment names no screen.
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
        console = Console(kernel, process.pid, now)
        self._known.append(console)
        task = asyncio.get_running_loop().create_task(_watch(console, process, output, env))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)
        return console


async def _watch(
    console: Console, process: "subprocess.Popen[bytes]", output: IO[bytes], env: Mapping[str, str]
) -> None:
    with output:
        try:
            await wait_for_end(ProcessId(process.pid, read_stat(process.pid)[2]), reap=False)
        finally:
            process.returncode = process.poll() or 0
        output.seek(max(0, output.seek(0, os.SEEK_END) - TAIL))
        console.output_tail = output.read().decode(errors="replace")
        console.code = process.returncode
        console.reason = (
            "closed" if console.code == 0 else explain_exit(console.output_tail, console.code, env)
        )


def plan_console(connection_file: str, options: Sequence[str]) -> list[str]:
    """Build the command.

    Raises
    ------
    KconndError
        If qtconsole or a Qt binding is not installed beside the daemon.
    """
    try:
        return qtconsole_command(connection_file, options)
    except ImportError as error:
        raise KconndError(
            f"opening a Qt console: {error}", hint="kconnd-ctl console opens one in the terminal"
        ) from error


def session_environment(
    user: User, own: Mapping[str, str], given: Mapping[str, Any]
) -> dict[str, str]:
    """Build a console's environment: the user's own, and of the request what a window needs."""
    window = {name: str(given[name]) for name in SESSION_VARIABLES if given.get(name)}
    return base_environment(user, own, "") | window
