"""Prints the reasons for delays while a stop or a restart of kernels is pending.

The reply to a stop arrives when all processes of the kernel have exited, which can take half a
minute. During this time, a thread polls the kernels and prints each reason once on stderr.
"""

from __future__ import annotations

import contextlib
import sys
from threading import Event, Thread

from kconnd.cli import render
from kconnd.client import kernel_path
from kconnd.errors import KconndError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from kconnd.client import Client

FIRST_POLL_S = 2.0  # nearly all kernels exit within this time, on a loaded machine too
POLL_INTERVAL_S = 0.5


class Progress:
    """A context manager that watches kernels while requests about them are pending.

    Parameters
    ----------
    client : Client
        The client of the daemon.
    verb : str
        The verb of ``kconnd-ctl`` that sends the requests: ``stop`` or ``restart``.
    """

    def __init__(self, client: Client, verb: str) -> None:
        self._client, self._verb = client, verb
        # For each kernel with a pending request: the last reason that was printed.
        self._printed: dict[str, str] = {}
        self._ended = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def during(self, name: str, request: Callable[[], Any]) -> Any:
        """Send a request about a kernel, and watch the kernel until the reply arrives."""
        self._printed[name] = ""
        try:
            return request()
        finally:
            del self._printed[name]

    def _watch(self) -> None:
        delay = FIRST_POLL_S
        while not self._ended.wait(delay):
            delay = POLL_INTERVAL_S
            for name in list(self._printed):
                with contextlib.suppress(KconndError):  # the request itself reports the error
                    self._poll(name)

    def _poll(self, name: str) -> None:
        reason = self._client.get(kernel_path(name)).get("waits_for") or ""
        printed = self._printed.get(name)
        if printed is None or reason in {"", printed}:
            return
        self._printed[name] = reason
        print(render.plain(f"{name} waits for {reason}"), file=sys.stderr, flush=True)
        if not printed and "its shim" not in reason:  # --now sends a signal to the kernel alone
            hint = f"  kconnd-ctl {self._verb} --now {name} ends the wait"
            print(hint, file=sys.stderr, flush=True)
