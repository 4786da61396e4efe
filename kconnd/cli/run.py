"""``kconnd-ctl run``: runs code on a kernel as if it were a program.

Output is printed as it arrives, and a traceback goes to stderr. Ctrl-C interrupts the kernel.
``input()`` in the code reads from stdin. `kconnd.cli.kernel_session` talks to the kernel.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from kconnd.client import kernel_path
from kconnd.errors import TimedOutError, UnreachableError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kconnd.cli.command_line import Arguments
    from kconnd.cli.kernel_session import KernelSession
    from kconnd.client import Client

INTERRUPTED = 130  # the exit code after Ctrl-C
MIN_TIMEOUT_S = 0.01  # of a socket; a timeout of zero would make it non-blocking
NOT_SENT = "nothing was sent, so the code will not run; {name} continues to start"


def run(arguments: Arguments) -> int:
    """Run code on a kernel, which is started if necessary."""
    sources = [*arguments.code, *map(_read_source, arguments.files)]
    if not sources:
        raise UsageError("run: FILE or -c CODE is missing", hint="kconnd-ctl help run describes it")
    deadline = time.monotonic() + _parse_timeout(arguments.timeout)
    from kconnd.cli.kernel_session import KernelSession  # noqa: PLC0415  # it imports zmq
    from kconnd.spawn import client_or_start  # noqa: PLC0415  # --help does not need it

    daemon = client_or_start(arguments.socket)
    try:
        kernel = _start(daemon, arguments, deadline)
    except KeyboardInterrupt:
        print(f"kconnd-ctl: {NOT_SENT.format(name=arguments.name)}", file=sys.stderr)
        return INTERRUPTED
    session = KernelSession(daemon, kernel, arguments, deadline)
    try:
        return _execute(session, sources)
    finally:
        session.close()


def _start(daemon: Client, arguments: Arguments, deadline: float) -> dict[str, Any]:
    """Start the kernel, and wait until it is ready or the deadline has passed."""
    remaining = max(MIN_TIMEOUT_S, deadline - time.monotonic())
    limit = None if remaining == float("inf") else remaining
    path = kernel_path(arguments.name, "start")
    try:
        kernel: dict[str, Any] = daemon.request("POST", path, {"on_demand": True}, limit=limit)
    except UnreachableError:
        if time.monotonic() < deadline:
            raise
        raise TimedOutError(
            f"running code on {arguments.name}: the kernel was not ready within "
            f"{arguments.timeout}",
            hint=NOT_SENT.format(name=arguments.name),
        ) from None
    return kernel


def _execute(session: KernelSession, sources: list[str]) -> int:
    try:
        succeeded = all(session.execute(source) for source in sources)
    except KeyboardInterrupt:
        print(f"kconnd-ctl: {session.fate_of_code()}", file=sys.stderr)
        return INTERRUPTED
    if session.was_interrupted:
        return INTERRUPTED
    return 0 if succeeded else 1


def _read_source(path: str) -> str:
    if path == "-":
        return sys.stdin.read()
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"reading {path}: {reason}") from None


def _parse_timeout(text: str) -> float:
    from kconnd.core.profile.quantities import parse_duration  # noqa: PLC0415  # for run only

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from None
