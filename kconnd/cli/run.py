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
from kconnd.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kconnd.cli.kernel_session import KernelSession


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
    kernel = daemon.post(kernel_path(given.name, "start"), {"on_demand": True})
    session = KernelSession(daemon, kernel, given, deadline)
    try:
        return _execute(session, sources)
    finally:
        session.close()


def _execute(session: KernelSession, sources: list[str]) -> int:
    try:
        return 0 if all(session.execute(source) for source in sources) else 1
    except KeyboardInterrupt:
        print(f"kconnd-ctl: {session.fate_of_code()}", file=sys.stderr)
        return 130


def _read(name: str) -> str:
    if name == "-":
        return sys.stdin.read()
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"reading {name}: {error}") from None


def _seconds(text: str) -> float:
    from kconnd.core.units import parse_duration  # noqa: PLC0415  # only for this

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from None
