"""``kconnd-ctl run``: runs code on a kernel like a program.

Output is printed as it arrives, and a traceback goes to stderr. Ctrl-C interrupts the kernel.
``input()`` in the code reads from stdin. `kconnd.cli.kernel_session` exchanges messages with the
kernel.
"""

from __future__ import annotations

import os
import sys
import time

from kconnd.cli.code_piece import pieces_of
from kconnd.cli.message_output import MessageOutput
from kconnd.cli.saved_output import OutputFolder
from kconnd.core.execution_outcome import INTERRUPTED, SUCCEEDED
from kconnd.errors import NotRunningError, TimedOutError, UnreachableError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kconnd.cli.code_piece import CodePiece
    from kconnd.cli.command_line import Arguments
    from kconnd.cli.kernel_session import KernelSession
    from kconnd.client import Client

MIN_TIMEOUT_S = 0.01  # of a socket; a timeout of 0 would make the socket non-blocking
REST_NOT_SENT = "the rest of the code was not sent"
NOT_SENT = "nothing was sent, so the code will not run; {name} continues to start"


def run(arguments: Arguments) -> int:
    """Run code on a kernel; start the kernel if necessary."""
    pieces = pieces_of(arguments)
    deadline = time.monotonic() + _parse_timeout(arguments.timeout)
    folder = OutputFolder(arguments.save) if arguments.save else None
    # These imports are here, because a wrong command line does not need them: they import zmq.
    from kconnd.cli.kernel_session import KernelSession  # noqa: PLC0415
    from kconnd.spawn import client_or_start  # noqa: PLC0415

    daemon = client_or_start(arguments.socket)
    try:
        kernel = _start(daemon, arguments, deadline)
    except KeyboardInterrupt:
        print(f"kconnd-ctl: {NOT_SENT.format(name=arguments.name)}", file=sys.stderr)
        return INTERRUPTED
    # The client adds the field uid to the replies of other owners' daemons.
    is_own = kernel.get("uid", os.geteuid()) == os.geteuid()
    output = MessageOutput(as_json=arguments.json, is_own=is_own, folder=folder)
    session = KernelSession(daemon, kernel, arguments, deadline, output)
    try:
        return _execute(session, pieces)
    except NotRunningError as error:
        if session.was_interrupted:  # an interrupt ends some kernels
            error.exit_code = INTERRUPTED
        raise
    finally:
        session.close()
        output.close()


def _start(daemon: Client, arguments: Arguments, deadline: float) -> dict[str, Any]:
    """Start the kernel if necessary, and wait until it is ready or the deadline has passed."""
    remaining = max(MIN_TIMEOUT_S, deadline - time.monotonic())
    limit = None if remaining == float("inf") else remaining
    try:
        body = {"on_demand": True}
        kernel: dict[str, Any] = daemon.launch(arguments.name, body=body, limit=limit)
    except UnreachableError:
        if time.monotonic() < deadline:
            raise
        raise TimedOutError(
            f"running code on {arguments.name}: the kernel was not ready within "
            f"{arguments.timeout}",
            hint=NOT_SENT.format(name=arguments.name),
        ) from None
    return kernel


def _execute(session: KernelSession, pieces: list[CodePiece]) -> int:
    """Run the pieces of code until one fails; return the exit status of the last piece that ran."""
    try:
        for piece in pieces:
            if session.came_late:
                print(f"kconnd-ctl: {REST_NOT_SENT}", file=sys.stderr)
                return INTERRUPTED
            if status := session.execute(piece):
                return status
    except KeyboardInterrupt:
        print(f"kconnd-ctl: {session.fate_of_code()}", file=sys.stderr)
        return INTERRUPTED
    return SUCCEEDED


def _parse_timeout(text: str) -> float:
    from kconnd.core.profile.quantities import parse_duration  # noqa: PLC0415  # for run only

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from None
