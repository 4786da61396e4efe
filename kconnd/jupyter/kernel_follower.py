"""Follows a kernel's state in the daemon, so that a console can say what happens to its kernel.

A kernel publishes on iopub only what it still can: it announces a restart that was requested, and
nothing when it is killed. Its new process publishes nothing that says so. The daemon knows, so a
thread of the console polls it. `is_news` decides what is reported.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kconnd.client import Client, find_socket, kernel_path
from kconnd.core.terminal_text import clean
from kconnd.errors import KconndError, NoSuchKernelError

POLL_INTERVAL_S = 0.5
ENDED = frozenset({"stopped", "failed", "lost"})  # states without a process, now or soon
GONE = {"state": "stopped", "generation": 0, "reason": "it was removed"}


@dataclass(frozen=True)
class Change:
    """What has happened to a kernel.

    Parameters
    ----------
    text : str
        A line for people.
    is_new_process : bool
        Whether a new process has taken the place of the old one and is ready.
    """

    text: str
    is_new_process: bool = False


def is_news(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether a kernel has ended, or has a new process that is ready.

    Parameters
    ----------
    before, after : mapping
        The description that was reported last, and the present one, as the daemon replies them.
    """
    had_ended = before["state"] in ENDED
    if after["state"] in ENDED:
        return not had_ended
    is_new = had_ended or after["generation"] != before["generation"]
    return bool(after["state"] == "running" and is_new)


def describe_change(
    name: str, after: Mapping[str, Any], reason: str, *, same_connection: bool
) -> Change:
    """Describe a change for which `is_news` holds.

    Parameters
    ----------
    name : str
        The kernel's name, as the user spells it.
    after : mapping
        See `is_news`.
    reason : str
        Why the old process ended; ``""`` if that is unknown.
    same_connection : bool
        Whether the present process has the key and ports of the one that the console knows.
    """
    if after["state"] in ENDED:
        why = after["reason"] or reason or "unknown"
        return Change(f"{name} is {after['state']}: {why}; kconnd-ctl start {name} starts it")
    because = f" ({reason})" if reason else ""
    if not same_connection:
        return Change(
            f"{name} has a new process with another key{because}: close this console, and open a "
            "new one"
        )
    return Change(f"{name} was restarted{because}: its variables are gone", is_new_process=True)


def reason_of_end(decisions: list[Mapping[str, Any]]) -> str:
    """Find in the daemon's decisions why the last process ended; ``""`` if they do not show it."""
    ends = (decision for decision in reversed(decisions) if _ends_process(str(decision["what"])))
    return str(next(ends, {"reason": ""})["reason"])


def _ends_process(what: str) -> bool:
    before, _, after = what.partition(" → ")
    return before == "running" and bool(after)


class KernelFollower:
    """Polls the daemon in a thread, and reports what happens to a kernel.

    Parameters
    ----------
    kernel : str
        The kernel's name, as the user spells it.
    socket : str
        The daemon's socket; ``""`` for the default socket.
    report : callable
        Takes each `Change`, in the thread.
    interval_s : float
        Seconds between two requests.
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
        self._due = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="kernel follower")

    @property
    def has_ended(self) -> bool | None:
        """Whether the kernel has no process and gets none; None if the daemon does not answer."""
        return None if self._latest is None else self._latest["state"] in ENDED

    @property
    def is_busy(self) -> bool:
        """Whether the kernel was running a cell, according to the daemon's last reply."""
        return bool(self._latest and self._latest["execution_state"] == "busy")

    def start(self) -> None:
        """Poll from now on; changes are relative to the present state."""
        self.poll()
        with contextlib.suppress(KconndError):
            self._connection = self._client().get(kernel_path(self.kernel, "connection"))
        self._thread.start()

    def poll_now(self) -> None:
        """Poll without waiting for the next turn."""
        self._due.set()

    def post(self, verb: str, body: Mapping[str, object] | None = None) -> None:
        """Send a command about the kernel to the daemon.

        Raises
        ------
        KconndError
            If the daemon refuses, or does not answer.
        """
        self._client().post(kernel_path(self.kernel, verb), body)

    def poll(self) -> None:
        """Query the kernel's state once, and report a change."""
        client = self._client()
        try:
            self._latest = client.get(kernel_path(self.kernel))
        except NoSuchKernelError:
            self._latest = GONE
        except KconndError:
            self._latest = None
            return
        before = self._reported or self._latest
        if self._reported is None or is_news(before, self._latest):
            self._reported = self._latest
        if is_news(before, self._latest):
            self._report(self._describe(client, self._latest))

    def _describe(self, client: Client, after: Mapping[str, Any]) -> Change:
        reason, is_same = "", True
        with contextlib.suppress(KconndError):
            reason = reason_of_end(client.get(kernel_path(self.kernel, "why"))["decisions"])
            is_same = client.get(kernel_path(self.kernel, "connection")) == self._connection
        return describe_change(self.kernel, after, clean(reason), same_connection=is_same)

    def _client(self) -> Client:
        return Client(find_socket(os.environ, self._socket))

    def _run(self) -> None:
        while True:
            self._due.wait(self._interval_s)
            self._due.clear()
            self.poll()
