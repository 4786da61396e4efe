"""``kconnd-ctl run``: code on a kernel from the command line, as if it were a program.

Output comes as it is made; an error's traceback goes to stderr; Ctrl-C interrupts the kernel;
what the code asks for with ``input()`` is read from stdin. Only messages that answer our own
request are shown, though other clients of the kernel may be at work.
"""

from __future__ import annotations

import json
import re
import sys
import time
from getpass import getpass
from pathlib import Path

from kconnd.cli.arguments import parser
from kconnd.client import kernel_path
from kconnd.errors import NotRunningError, TimedOutError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jupyter_client.blocking.client import BlockingKernelClient

    from kconnd.cli.arguments import Given
    from kconnd.client import Client

GLANCE = 1000  # milliseconds of silence after which the daemon is asked whether the kernel lives
END_OF_INPUT = "\x04"  # what Jupyter's clients send for the end of stdin
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def run(arguments: list[str]) -> int:
    """Run code on a kernel."""
    verb = parser(
        "run",
        "Run files, or a line of code, on a kernel, which is started if need be. Output comes\n"
        "as it is made, a traceback goes to stderr with exit code 1, Ctrl-C interrupts the\n"
        "kernel, stdin answers input().",
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
    from kconnd.spawn import client_or_start  # noqa: PLC0415  # only for this

    daemon = client_or_start(given.socket)
    kernel = daemon.post(kernel_path(given.name, "start"), {"on_demand": True})
    session = _Session(daemon, kernel, given, deadline)
    try:
        return 0 if all(session.execute(source) for source in sources) else 1
    finally:
        session.close()


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


class _Session:
    """One connection to the kernel, over several pieces of code."""

    def __init__(
        self, daemon: Client, kernel: dict[str, Any], given: Given, deadline: float
    ) -> None:
        import zmq  # noqa: PLC0415  # other verbs do without
        from jupyter_client.blocking.client import BlockingKernelClient  # noqa: PLC0415  # the same

        from kconnd.attach import readable_connection_file  # noqa: PLC0415  # the same

        self._daemon, self._kernel, self._given = daemon, kernel, given
        self._deadline = deadline
        self._client: BlockingKernelClient = BlockingKernelClient(
            connection_file=readable_connection_file(daemon, kernel, given.name)
        )
        self._client.load_connection_file()
        self._client.start_channels()
        self._poller = zmq.Poller()
        for channel in (self._client.iopub_channel, self._client.stdin_channel):
            self._poller.register(channel.socket, zmq.POLLIN)
        self._subscribe()

    def _subscribe(self) -> None:
        """Wait until iopub is heard, so that no output is missed."""
        while True:
            self._client.kernel_info()
            if self._client.iopub_channel.socket.poll(100):
                break
            self._watch_time()
            self._check_alive()

    def close(self) -> None:
        """Let go of the kernel."""
        self._client.stop_channels()

    def execute(self, code: str) -> bool:
        """Run one piece of code; true if it went well."""
        request = self._client.execute(code, allow_stdin=True)
        idle = False
        while not idle:
            try:
                idle = self._step(request)
            except KeyboardInterrupt:
                self._interrupt()
        reply = self._reply(request)
        return bool(reply["content"]["status"] == "ok")

    def _step(self, request: str) -> bool:
        """Take what has come; true once the kernel is done."""
        ready = dict(self._poller.poll(GLANCE))
        if not ready:
            self._check_alive()
        self._watch_time()
        if self._client.stdin_channel.socket in ready:
            self._answer(self._client.get_stdin_msg(timeout=1))
        if self._client.iopub_channel.socket in ready:
            message = self._client.get_iopub_msg(timeout=1)
            if message["parent_header"].get("msg_id") == request:
                self._show(message)
                return bool(
                    message["msg_type"] == "status"
                    and message["content"]["execution_state"] == "idle"
                )
        return False

    def _reply(self, request: str) -> dict[str, Any]:
        while True:
            reply: dict[str, Any] = self._client.get_shell_msg(timeout=30)
            if reply["parent_header"].get("msg_id") == request:
                if self._given.json:
                    _print_message(reply)
                return reply

    def _interrupt(self) -> None:
        print("interrupting …", file=sys.stderr)
        self._daemon.post(kernel_path(self._given.name, "interrupt"))

    def _watch_time(self) -> None:
        if time.monotonic() > self._deadline:
            self._daemon.post(kernel_path(self._given.name, "interrupt"))
            raise TimedOutError(
                f"running code on {self._given.name}: not done within {self._given.timeout}",
                hint="it was interrupted; the kernel goes on",
            )

    def _check_alive(self) -> None:
        now = self._daemon.get(kernel_path(self._given.name))
        if now["generation"] == self._kernel["generation"] and now["state"] == "running":
            return
        last = now["last_exit"] or {"reason": "it ended", "output_tail": ""}
        raise NotRunningError(
            f"running code on {self._given.name}: the kernel {last['reason']}",
            hint=f"kconnd-ctl why {self._given.name} tells what was done about it",
            output=last["output_tail"],
        )

    def _answer(self, message: dict[str, Any]) -> None:
        if self._given.json:
            _print_message(message)
        prompt = message["content"]["prompt"]
        if message["content"].get("password") and sys.stdin.isatty():
            self._client.input(getpass(prompt))
            return
        print(prompt, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        self._client.input(line.rstrip("\n") if line else END_OF_INPUT)

    def _show(self, message: dict[str, Any]) -> None:
        if self._given.json:
            _print_message(message)
            return
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            stream = sys.stderr if content["name"] == "stderr" else sys.stdout
            print(content["text"], end="", file=stream, flush=True)
        elif kind in {"execute_result", "display_data"}:
            print(content["data"].get("text/plain", ""), flush=True)
        elif kind == "error":
            text = "\n".join(content["traceback"]) or f"{content['ename']}: {content['evalue']}"
            print(text if sys.stderr.isatty() else _ANSI.sub("", text), file=sys.stderr)


def _print_message(message: dict[str, Any]) -> None:
    keys = ("msg_type", "header", "parent_header", "metadata", "content")
    print(json.dumps({key: message[key] for key in keys}, default=str), flush=True)
