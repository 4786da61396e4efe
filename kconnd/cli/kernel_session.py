"""The connection over which ``kconnd-ctl run`` executes code on a kernel, piece by piece.

How it works. The session polls the daemon until the kernel is idle, and then sends the code. The
effect of Ctrl-C, and of the end of the time limit, depends on the phase. In the first phase, the
code has not been sent: the command ends, and the code never runs. In the second phase, the code has
been sent, but another client's cell may still run first: the command ends, and the code runs later.
The kernel is not interrupted, because an interrupt would hit the other client's cell. In the third
phase, which begins with the kernel's first message about the code, the kernel is interrupted.

The code has ended when its status ``idle`` arrives on iopub. Many kernels send no reply for an
interrupted cell. After an interrupt by this command, a missing reply is accepted. If the reply is
missing without such an interrupt, the session sends a second request. A reply to the second request
proves that the kernel will not reply to the first. Some kernels publish output after the status
``idle``. The session waits for such output, unless the kernel is known to publish all output before
this status.

Other clients may use the kernel at the same time. The session therefore drops messages that do not
belong to its own requests. `kconnd.cli.message_output` prints the other messages.
"""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from enum import Enum
from getpass import getpass

import zmq
from jupyter_client.blocking.client import BlockingKernelClient

from kconnd.attach import readable_connection_file
from kconnd.cli.render import plain
from kconnd.client import kernel_path
from kconnd.core.execution_outcome import exit_status_of, message_of
from kconnd.errors import (
    FatalInterruptError,
    KconndError,
    NotRunningError,
    TimedOutError,
    UnreachableError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kconnd.cli.code_piece import CodePiece
    from kconnd.cli.command_line import Arguments
    from kconnd.cli.message_output import MessageOutput
    from kconnd.client import Client

POLL_INTERVAL_MS = 1000  # after this silence, the daemon is asked for the kernel's state
SUBSCRIPTION_TRIES = 20
MAX_UNSHOWN = 1000  # the most messages to receive before they are printed
REPLY_WAIT_MS = 100  # from `idle` to the reply, which arrives on another socket
DAEMON_TIMEOUT_S = 60.0  # without a daemon, after which the command ends; the kernel runs on
INTERRUPT_WATCH_S = 5.0  # async-kernel takes up to 4 s to end a cell after an interrupt
REPLY_TIMEOUT_S = 30.0  # from `idle` to any reply
LATE_OUTPUT_S = 0.05  # deno publishes output up to 0.3 ms after `idle`
END_OF_INPUT = "\x04"  # Jupyter's clients send this at the end of stdin
# Implementations that publish all output of a cell before the cell's `idle`.
IN_ORDER = frozenset({"ipython"})


class Phase(Enum):
    """The progress of the code; each value describes the progress to the user."""

    WAITING = "nothing was sent, so the code will not run"
    SENT = (
        "the code was sent and has not begun; it will still run, when the kernel gets to it, and "
        "nothing was interrupted"
    )
    RUNNING = "the code still runs; kconnd-ctl interrupt {name} interrupts it"
    INTERRUPTED = (
        "the code still runs; if it goes on, kconnd-ctl restart {name} ends it, and loses the "
        "kernel's data as well"
    )
    DONE = "the code has finished"
    BETWEEN = "the rest of the code was not sent"


class KernelSession:
    """The connection to a kernel; all pieces of code are sent over the same connection.

    Parameters
    ----------
    daemon : Client
        The client of the kernel's daemon.
    kernel : dict
        The daemon's description of the kernel.
    arguments : Arguments
        The parsed command line, of which ``name`` and ``timeout`` are used.
    deadline : float
        The time by which all of the code must have finished, in monotonic seconds.
    output : MessageOutput
        The object that prints the messages of the kernel. The session does not close it.
    """

    def __init__(
        self,
        daemon: Client,
        kernel: dict[str, Any],
        arguments: Arguments,
        deadline: float,
        output: MessageOutput,
    ) -> None:
        self._daemon, self._kernel, self._arguments = daemon, kernel, arguments
        self._deadline, self._output = deadline, output
        self._phase, self._interrupted = Phase.WAITING, False
        self._came_late = False  # whether Ctrl-C found the kernel idle: the code had finished
        self._has_begun = False  # whether the code has published anything but its status
        self._ignored_at = math.inf  # when to report that the interrupt has had no effect
        self._unreachable_since: float | None = None  # no daemon has answered since then
        # Messages about the current request that are not printed yet.
        self._unshown: deque[dict[str, Any]] = deque()
        self._client: BlockingKernelClient = BlockingKernelClient(
            connection_file=readable_connection_file(daemon, kernel, arguments.name)
        )
        self._client.load_connection_file()
        self._client.start_channels(hb=False)  # the daemon reports the death of the kernel
        self._poller = zmq.Poller()
        for channel in (self._client.iopub_channel, self._client.stdin_channel):
            self._poller.register(channel.socket, zmq.POLLIN)
        self._subscribed = self._is_silence_explained = False

    def close(self) -> None:
        """Disconnect; the kernel keeps running."""
        self._client.stop_channels()

    def fate_of_code(self) -> str:
        """Describe what happens to the code if the command ends now."""
        goes_on = self._phase is Phase.RUNNING and self._interrupted
        phase = Phase.INTERRUPTED if goes_on else self._phase
        phase = Phase.DONE if self._came_late else phase
        return phase.value.format(name=self._arguments.name)

    @property
    def was_interrupted(self) -> bool:
        """Whether the command has interrupted the piece of code that was sent last."""
        return self._interrupted

    @property
    def came_late(self) -> bool:
        """Whether Ctrl-C was pressed, and the piece of code that was sent last had finished."""
        return self._came_late

    def execute(self, piece: CodePiece) -> int:
        """Run one piece of code, and return its exit status.

        Raises
        ------
        UsageError
            If the piece is a script with arguments, and the kernel is not a Python kernel.
        TimedOutError
            If the code does not finish in time. The error describes what happens to the code.
        NotRunningError
            If the kernel ends before the code has finished.
        """
        self._phase = Phase.WAITING if self._phase is Phase.WAITING else Phase.BETWEEN
        session = self._client.session.session
        preparation = piece.preparation(self._kernel.get("language") or "", session)
        self._wait_until_idle()
        if not self._subscribed:
            self._subscribe()
            self._wait_until_idle()
        if preparation:
            self._prepare(preparation, is_needed=piece.must_be_prepared())
        self._check_time()
        self._phase, self._interrupted, self._ignored_at = Phase.SENT, False, math.inf
        self._has_begun = False
        request = self._client.execute(piece.code, allow_stdin=True)
        while self._phase is not Phase.DONE or self._unshown:
            try:
                self._step(request, with_result=piece.with_result)
            except KeyboardInterrupt:
                self._interrupt_or_leave(request)
        self._show_late_output(request, with_result=piece.with_result)
        reply = self._reply(request)
        interrupted, has_begun = self._interrupted, self._has_begun
        self._output.show_note(message_of(reply, interrupted=interrupted, has_begun=has_begun))
        return exit_status_of(reply, interrupted=interrupted, has_begun=has_begun)

    # --- before the code is sent

    def _wait_until_idle(self) -> None:
        """Wait until the daemon reports that the kernel is idle."""
        told = not sys.stderr.isatty()
        while not self._is_idle():
            self._await_status()
            self._check_time()
            if not told and not self._is_idle():
                told = True
                name = self._arguments.name
                print(f"waiting until {name} is idle; Ctrl-C ends the wait", file=sys.stderr)

    def _is_idle(self) -> bool:
        kernel = self._look()
        self._explain_silence(kernel)
        return bool(kernel["execution_state"] == "idle")

    def _await_status(self) -> None:
        """Wait until the kernel publishes the status ``idle``, but at most `POLL_INTERVAL_MS`."""
        iopub = self._client.iopub_channel.socket
        until = time.monotonic() + POLL_INTERVAL_MS / 1000
        while iopub.poll(max(0, int((until - time.monotonic()) * 1000))):
            if _execution_state(self._client.get_iopub_msg(timeout=1)) == "idle":
                return

    def _subscribe(self) -> None:
        """Wait until the subscription to iopub is active, so that no output is missed.

        The session sends a request and waits for the request's status message on iopub. If the
        reply on shell arrives without this message, the request is repeated, up to
        `SUBSCRIPTION_TRIES` times. A kernel that publishes no status messages is accepted.
        """
        for _ in range(SUBSCRIPTION_TRIES):
            request = self._client.kernel_info()
            while not self._client.shell_channel.socket.poll(POLL_INTERVAL_MS):
                self._check_time()
                self._explain_silence(self._look(check=True))
            self._client.get_shell_msg(timeout=1)
            if self._hears(request):
                break
        self._subscribed = True

    def _explain_silence(self, kernel: dict[str, Any]) -> None:
        """Report once that the kernel reports idle and does not answer."""
        if self._is_silence_explained or not (silence := kernel.get("unanswered")):
            return
        self._is_silence_explained = True
        name = self._arguments.name
        text = f"kconnd-ctl: waiting for {name}: {silence}; Ctrl-C ends the wait"
        print(plain(text), file=sys.stderr)

    def _hears(self, request: str) -> bool:
        while self._client.iopub_channel.socket.poll(100):
            message = self._client.get_iopub_msg(timeout=1)
            if _parent_id(message) == request and _execution_state(message) == "idle":
                return True
        return False

    def _prepare(self, code: str, *, is_needed: bool) -> None:
        """Execute code silently, before the code of the user.

        Raises
        ------
        KconndError
            If the code fails and ``is_needed`` is true.
        """
        request = self._client.execute(code, silent=True, stop_on_error=False)
        while (reply := self._next_reply({request}, POLL_INTERVAL_MS)) is None:
            self._look()
            self._check_time()
        if is_needed and reply["content"].get("status") != "ok":
            reason = f"{reply['content'].get('ename')}: {reply['content'].get('evalue')}"
            raise KconndError(
                f"running code on {self._arguments.name}: the kernel cannot pass arguments to a "
                f"script: {reason}",
                hint="the script was not sent; only kernels with IPython can",
            )

    # --- while the code runs

    def _step(self, request: str, *, with_result: bool) -> None:
        """Receive the messages that have arrived, and show one of them.

        The order of the steps is: receive all messages, check the time limit, print. Printing can
        block, for example on a pipe that nobody reads. While printing blocks, this session's code
        may finish and another client's cell may begin. The other client's cell must not be
        interrupted, so the messages are received again before the next check of the time limit.
        """
        if not self._unshown:
            self._await_message()
        self._receive(request)
        if self._phase is not Phase.DONE:
            self._check_time()
            self._check_interrupt()
        if self._unshown:
            self._output.show(self._unshown.popleft(), with_result=with_result)

    def _await_message(self) -> None:
        ready = dict(self._poller.poll(POLL_INTERVAL_MS))
        if self._client.stdin_channel.socket in ready:
            self._answer(self._client.get_stdin_msg(timeout=1))
        if not ready:
            self._look()
            if self._client.shell_channel.socket.poll(0):
                self._phase = Phase.DONE  # the kernel has replied, so its `idle` on iopub was lost

    def _receive(self, request: str) -> None:
        """Store the messages about this session's request, and update the phase."""
        iopub = self._client.iopub_channel.socket
        for _ in range(MAX_UNSHOWN):
            if self._phase is Phase.DONE or not iopub.poll(0):
                return
            message = self._client.get_iopub_msg(timeout=1)
            if _parent_id(message) == request:
                idle = _execution_state(message) == "idle"
                self._phase = Phase.DONE if idle else Phase.RUNNING
                self._has_begun = self._has_begun or message["msg_type"] != "status"
                self._unshown.append(message)

    def _interrupt_or_leave(self, request: str) -> None:
        """Interrupt the code; if it is not running or was interrupted before, end the command."""
        self._receive(request)
        if self._phase is not Phase.RUNNING or self._interrupted or self._came_late:
            raise KeyboardInterrupt
        self._interrupted = True
        print("interrupting …", file=sys.stderr)
        try:
            if self._interrupt() == "idle":
                self._interrupted, self._came_late = False, True
                text = "kconnd-ctl: the code had already finished; nothing was interrupted"
                print(text, file=sys.stderr)
                return
        except FatalInterruptError as error:
            print(plain(f"kconnd-ctl: {error.message}"), file=sys.stderr)
            raise KeyboardInterrupt from None
        self._ignored_at = time.monotonic() + INTERRUPT_WATCH_S

    def _check_interrupt(self) -> None:
        """Report once that the code goes on in spite of an interrupt."""
        if time.monotonic() < self._ignored_at:
            return
        self._ignored_at = math.inf
        print(
            f"kconnd-ctl: the interrupt was sent, but the code still runs after "
            f"{INTERRUPT_WATCH_S:.0f} s; Ctrl-C ends this command and leaves the code running",
            file=sys.stderr,
        )

    def _interrupt(self) -> str:
        """Interrupt the kernel; return the effect, which a daemon of an earlier version omits."""
        reply = self._daemon.post(kernel_path(self._arguments.name, "interrupt"))
        return str(reply.get("interrupt") or "")

    def _check_time(self) -> None:
        if time.monotonic() <= self._deadline:
            return
        name, limit = self._arguments.name, self._arguments.timeout
        if self._phase is Phase.RUNNING:
            hint = f"an interrupt was sent; kconnd-ctl info {name} shows whether it still runs"
            try:
                self._interrupt()
            except FatalInterruptError as error:
                hint = f"the code still runs: {error.message}"
            raise TimedOutError(f"running code on {name}: not done within {limit}", hint=hint)
        raise TimedOutError(
            f"running code on {name}: the kernel was not idle within {limit}",
            hint=self.fate_of_code(),
        )

    def _look(self, *, check: bool = False) -> dict[str, Any]:
        """Request the kernel's state from the daemon; ``check`` lets it check an idle kernel.

        If no daemon answers, the kernel keeps running, and the returned ``execution_state`` is None
        until the next daemon has adopted the kernel.

        Raises
        ------
        NotRunningError
            If the kernel is not running, or if a new process has replaced the connected process.
        UnreachableError
            If no daemon has answered for `DAEMON_TIMEOUT_S`.
        """
        try:
            path = kernel_path(self._arguments.name) + ("?check=1" if check else "")
            now: dict[str, Any] = self._daemon.get(path)
        except UnreachableError:
            self._unreachable_since = self._unreachable_since or time.monotonic()
            if time.monotonic() > self._unreachable_since + DAEMON_TIMEOUT_S:
                raise
            return {**self._kernel, "execution_state": None}
        self._unreachable_since = None
        if now["generation"] == self._kernel["generation"] and now["state"] == "running":
            return now
        last = now["last_exit"] or {"reason": "ended", "output_tail": ""}
        raise NotRunningError(
            f"running code on {self._arguments.name}: the kernel {last['reason']}",
            hint=f"kconnd-ctl why {self._arguments.name} shows what was done about it",
            output=last["output_tail"],
        )

    # --- after the end of the code

    def _show_late_output(self, request: str, *, with_result: bool) -> None:
        """Show output that arrives up to `LATE_OUTPUT_S` after the status ``idle``."""
        if self._kernel.get("implementation") in IN_ORDER:
            return
        iopub = self._client.iopub_channel.socket
        until = time.monotonic() + LATE_OUTPUT_S
        while iopub.poll(max(0, int((until - time.monotonic()) * 1000))):
            message = self._client.get_iopub_msg(timeout=1)
            if _parent_id(message) == request:
                self._output.show(message, with_result=with_result)

    def _reply(self, request: str) -> dict[str, Any]:
        """Return the content of the reply; ``{}`` if the kernel sends none after an interrupt.

        Without an interrupt, a missing reply is an error. The reply is missing if the kernel
        answers a second request, which the session sends after ``idle``, and has not answered the
        first.
        """
        reply = self._next_reply({request}, REPLY_WAIT_MS)
        if reply is None and not self._interrupted:
            reply = self._reply_before_next(request)
        if reply is not None and _parent_id(reply) == request:
            self._output.show_json(reply)
            return dict(reply["content"])
        if self._interrupted:
            return {}
        raise KconndError(
            f"running code on {self._arguments.name}: the kernel finished it without a reply",
            hint="another client interrupted it, or the kernel failed: kconnd-ctl logs "
            f"{self._arguments.name} may show it; all output of the code is above",
        )

    def _reply_before_next(self, request: str) -> dict[str, Any] | None:
        """Send a second request; return the reply that arrives first, to either request."""
        second = self._client.kernel_info()
        until = time.monotonic() + REPLY_TIMEOUT_S
        reply = None
        while reply is None and time.monotonic() < until:
            self._look()
            reply = self._next_reply({request, second}, POLL_INTERVAL_MS)
        return reply

    def _next_reply(self, requests: set[str], limit_ms: int) -> dict[str, Any] | None:
        """Receive the reply to one of the requests; None if none arrives in time."""
        until = time.monotonic() + limit_ms / 1000
        shell = self._client.shell_channel.socket
        while shell.poll(max(0, int((until - time.monotonic()) * 1000))):
            reply: dict[str, Any] = self._client.get_shell_msg(timeout=1)
            if _parent_id(reply) in requests:
                return reply
        return None

    # --- input of the user

    def _answer(self, message: dict[str, Any]) -> None:
        """Answer an ``input_request`` with a line of stdin.

        The kernel ``async-kernel`` refuses a reply that lacks the status or the parent header.
        """
        self._output.show_json(message)
        content = {"status": "ok", "value": self._read_input(message["content"])}
        channel = self._client.stdin_channel
        channel.send(self._client.session.msg("input_reply", content, parent=message))

    def _read_input(self, content: dict[str, Any]) -> str:
        if content.get("password") and sys.stdin.isatty():
            return getpass(self._output.filtered(content["prompt"], sys.stderr))
        self._output.show_prompt(content["prompt"])
        line = sys.stdin.readline()
        return line.rstrip("\n") if line else END_OF_INPUT


def _parent_id(message: dict[str, Any]) -> str:
    """Return the id of a message's request; ``""`` if the parent header is null (as from xeus)."""
    return str((message.get("parent_header") or {}).get("msg_id", ""))


def _execution_state(message: dict[str, Any]) -> str:
    return str(message["content"].get("execution_state", ""))
