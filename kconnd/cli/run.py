"""``kconnd-ctl run``: code on a kernel from the command line, as if it were a program.

Output comes as it is made; an error's traceback goes to stderr; Ctrl-C interrupts the kernel;
what the code asks for with ``input()`` is read from stdin. `kconnd.cli.kernel_session` does it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from kconnd.cli.arguments import parser
from kconnd.client import kernel_path
from kconnd.errors import TimedOutError, UnreachableError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kconnd.cli.arguments import Given
    from kconnd.cli.kernel_session import KernelSession
    from kconnd.client import Client

INTERRUPTED = 130  # the exit code after Ctrl-C
MIN_WAIT_S = 0.01  # of a socket; zero would mean not to wait at all
NOT_SENT = "nothing was sent, so the code will not run; {name} goes on starting"


def run(arguments: list[str]) -> int:
    """Run code on a kernel."""
    verb = parser(
        "run",
        "Run files, or a line of code, on a kernel, which is started if need be. Output comes\n"
        "as it is made, a traceback goes to stderr with exit code 1, stdin answers input().\n"
        "Code is sent once the kernel is idle. Until then --timeout and Ctrl-C end the command,\n"
        "and the code never runs; later they interrupt the kernel. A second Ctrl-C leaves.",
        "kconnd-ctl run mykernel -c 'print(6 * 7)'",
        '{"msg_type", "header", "parent_header", "metadata", "content"}, a line for each\n'
        "  Jupyter message, as it comes",
    )
    verb.add_argument("name", metavar="NAME", help="a kernel")
    verb.add_argument("files", nargs="*", metavar="FILE", help="code to run; - is stdin")
    verb.add_argument("-c", "--code", action="append", default=[], help="code to run")
    verb.add_argument("--timeout", default="infinity", metavar="TIME", help="such as 30s or 5min")
    given = verb.parse_args(arguments)
    sources = [*given.code, *map(_read, given.files)]
    if not sources:
        raise UsageError("run needs files or -c CODE", hint="kconnd-ctl run --help tells its use")
    deadline = time.monotonic() + _seconds(given.timeout)
    from kconnd.cli.kernel_session import KernelSession  # noqa: PLC0415  # other verbs do without
    from kconnd.spawn import client_or_start  # noqa: PLC0415  # only for this

    daemon = client_or_start(given.socket)
    try:
        kernel = _start(daemon, given, deadline)
    except KeyboardInterrupt:
        print(f"kconnd-ctl: {NOT_SENT.format(name=given.name)}", file=sys.stderr)
        return INTERRUPTED
    session = KernelSession(daemon, kernel, given, deadline)
    try:
        return _execute(session, sources)
    finally:
        session.close()


def _start(daemon: Client, given: Given, deadline: float) -> dict[str, Any]:
    """Have the kernel started, and wait until it is ready or the time is up."""
    left = max(MIN_WAIT_S, deadline - time.monotonic())
    limit = None if left == float("inf") else left
    path = kernel_path(given.name, "start")
    try:
        kernel: dict[str, Any] = daemon.request("POST", path, {"on_demand": True}, limit=limit)
    except UnreachableError:
        if time.monotonic() < deadline:
            raise
        raise TimedOutError(
            f"running code on {given.name}: the kernel was not ready within {given.timeout}",
            hint=NOT_SENT.format(name=given.name),
        ) from None
    return kernel


def _execute(session: KernelSession, sources: list[str]) -> int:
    try:
        done = all(session.execute(source) for source in sources)
    except KeyboardInterrupt:
        print(f"kconnd-ctl: {session.fate_of_code()}", file=sys.stderr)
        return INTERRUPTED
    if session.was_interrupted:
        return INTERRUPTED
    return 0 if done else 1


def _read(name: str) -> str:
    if name == "-":
        return sys.stdin.read()
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"reading {name}: {reason}") from None


def _seconds(text: str) -> float:
    from kconnd.core.profile.quantities import parse_duration  # noqa: PLC0415  # only for this

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from None
