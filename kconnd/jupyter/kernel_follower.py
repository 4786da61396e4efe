"""Follows a kernel's state in the daemon, so that a console can report restarts and the end.

The messages on iopub do not suffice for this: a kernel announces a restart that was requested, but
publishes nothing when it is killed, and the messages of a new process do not show that the process
is new. The daemon knows the kernel's state. A thread of the console therefore polls the daemon.
`is_news` decides which changes are reported.

The owner of another user's kernel can withdraw the rights to connect to the kernel or to see it
while a console is attached. As soon as the kernel's key changes, the console can no longer receive
a reply. The follower therefore reports the withdrawal.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kconnd.client import Client, find_socket, kernel_path
from kconnd.core.terminal_text import clean
from kconnd.errors import KconndError, NoSuchKernelError, RefusedError

POLL_INTERVAL_S = 0.5
ENDED = frozenset({"stopped", "failed", "lost"})  # states without a process or planned restart
GONE = {"state": "stopped", "generation": 0, "reason": "it was removed"}


@dataclass(frozen=True)
class Change:
    """A change of a kernel: its end, a new process, or a withdrawn right.

    Parameters
    ----------
    text : str
        A line that describes the change to the user.
    is_new_process : bool
        Whether a new process has replaced the old process and is ready.
    """

    text: str
    is_new_process: bool = False


def is_news(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether, since the last report, a kernel has ended or has got a new, ready process.

    Parameters
    ----------
    before, after : mapping
        The daemon's descriptions of the kernel at the last report and at present.
    """
    had_ended = before["state"] in ENDED
    if after["state"] in ENDED:
        return not had_ended
    is_new = had_ended or after["generation"] != before["generation"]
    return bool(after["state"] == "running" and is_new)


def describe_change(
    name: str,
    after: Mapping[str, Any],
    reason: str,
    *,
    same_connection: bool,
    refusal: str = "",
) -> Change:
    """Describe a change for which `is_news` returns True.

    Parameters
    ----------
    name : str
        The kernel's name, as the user spells it.
    after : mapping
        The daemon's present description of the kernel.
    reason : str
        Why the old process ended; ``""`` if this is unknown.
    same_connection : bool
        Whether the kernel's present process has the key and ports that the console uses.
    refusal : str
        Why this user may no longer connect; ``""`` if the user may still connect.
    """
    if after["state"] in ENDED:
        why = after["reason"] or reason or "unknown"
        return Change(f"{name} is {after['state']}: {why}; kconnd-ctl start {name} starts it")
    because = f" ({reason})" if reason else ""
    if refusal:
        return Change(f"{name} has a new process{because}, and {refusal}: close this console")
    if not same_connection:
        return Change(
            f"{name} has a new process with another key{because}: close this console, and open a "
            "new one"
        )
    return Change(f"{name} was restarted{because}: its variables are gone", is_new_process=True)


def reason_of_end(decisions: list[Mapping[str, Any]]) -> str:
    """Return why the last process ended, from the daemon's decisions; ``""`` if unknown."""
    ends = (decision for decision in reversed(decisions) if _ends_process(str(decision["what"])))
    return str(next(ends, {"reason": ""})["reason"])


def _ends_process(what: str) -> bool:
    before, _, after = what.partition(" → ")
    return before == "running" and bool(after)


class KernelFollower:
    """Polls the daemon in a thread, and reports changes of a kernel.

    Parameters
    ----------
    kernel : str
        The kernel's name, as the user spells it.
    socket : str
        The daemon's socket; ``""`` for the default socket.
    report : callable
        A function that the polling thread calls with each `Change`.
    interval_s : float
        The time between two polls, in seconds.
    """

    def __init__(
        self,
        kernel: str,
        socket: str,
        report: Callable[[Change], None],
        interval_s: float = POLL_INTERVAL_S,
    ) -> None:
        self.kernel = kernel
        self._socket, self._report, self._interval_s = socket, report, interval_s
        self._reported: Mapping[str, Any] | None = None
        self._latest: Mapping[str, Any] | None = None  # None if the daemon did not answer
        self._connection: Mapping[str, Any] | None = None
        self._is_cut_off = False  # whether the present process has another key
        self._refusal = ""  # the last refusal to describe the kernel, to report it once
        self._due = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="kernel follower")

    @property
    def has_ended(self) -> bool | None:
        """Whether no process can answer the console; None if the daemon did not answer.

        No process can answer if the kernel has ended and will not restart, or if the kernel's
        present process has another key.
        """
        if self._latest is None:
            return None
        return self._is_cut_off or self._latest["state"] in ENDED

    @property
    def is_busy(self) -> bool:
        """Whether the kernel was running a cell, according to the daemon's last reply."""
        return bool(self._latest and self._latest["execution_state"] == "busy")

    def start(self) -> None:
        """Begin to poll; report changes that occur after this call."""
        self.poll()
        with contextlib.suppress(KconndError):
            self._connection = self._client().get(kernel_path(self.kernel, "connection"))
        self._thread.start()

    def poll_now(self) -> None:
        """Poll now instead of at the end of the present interval."""
        self._due.set()

    def post(self, verb: str, body: Mapping[str, object] | None = None) -> None:
        """Send a command for the kernel to the daemon.

        Raises
        ------
        KconndError
            If the daemon refuses the command or does not answer.
        """
        if verb == "restart":
            self._client().launch(self.kernel, verb, body)
        else:
            self._client().post(kernel_path(self.kernel, verb), body)

    def poll(self) -> None:
        """Query the kernel's state once; report a change if there is one."""
        client = self._client()
        try:
            self._latest = client.get(kernel_path(self.kernel))
        except NoSuchKernelError:
            self._latest = GONE
        except KconndError as error:
            self._latest = None
            if isinstance(error, RefusedError):
                self._report_refusal(error)
            return
        self._refusal = ""
        before = self._reported or self._latest
        if self._reported is None or is_news(before, self._latest):
            self._reported = self._latest
        if is_news(before, self._latest):
            change = self._describe(client, self._latest)
            self._is_cut_off = not change.is_new_process and self._latest["state"] not in ENDED
            self._report(change)

    def _report_refusal(self, error: RefusedError) -> None:
        if error.message != self._refusal:
            self._refusal = error.message
            self._report(Change(f"{self.kernel} is not followed any more: {clean(error.message)}"))

    def _describe(self, client: Client, after: Mapping[str, Any]) -> Change:
        reason, refusal, is_same = "", "", True
        with contextlib.suppress(KconndError):
            reason = reason_of_end(client.get(kernel_path(self.kernel, "why"))["decisions"])
        try:
            is_same = client.get(kernel_path(self.kernel, "connection")) == self._connection
        except RefusedError as error:
            refusal = clean(error.message)
        except KconndError:
            pass  # most restarts keep the key and the ports
        return describe_change(
            self.kernel, after, clean(reason), same_connection=is_same, refusal=refusal
        )

    def _client(self) -> Client:
        return Client(find_socket(os.environ, self._socket))

    def _run(self) -> None:
        while True:
            self._due.wait(self._interval_s)
            self._due.clear()
            self.poll()
