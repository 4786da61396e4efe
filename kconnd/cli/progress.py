"""Shows what kernels wait for while requests about them are under way.

The reply to a stop comes when every process of the kernel is gone, which can take half a minute.
A thread looks at the kernels that are waited for and prints each reason once, on stderr.
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

FIRST_LOOK_S = 0.5  # nearly all kernels have ended by then
LOOK_INTERVAL_S = 0.5


class Progress:
    """Watches the kernels of requests that are under way; a context manager.

    Parameters
    ----------
    client : Client
        The daemon.
    verb : str
        What is under way, as ``kconnd-ctl`` calls it.
    """

    def __init__(self, client: Client, verb: str) -> None:
        self._client, self._verb = client, verb
        self._told: dict[str, str] = {}  # of each kernel under way, what was printed last
        self._ended = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def during(self, name: str, request: Callable[[], Any]) -> Any:
        """Make a request about a kernel, which is watched until the reply."""
        self._told[name] = ""
        try:
            return request()
        finally:
            del self._told[name]

    def _watch(self) -> None:
        pause = FIRST_LOOK_S
        while not self._ended.wait(pause):
            pause = LOOK_INTERVAL_S
            for name in list(self._told):
                with contextlib.suppress(KconndError):  # the request itself will tell
                    self._look(name)

    def _look(self, name: str) -> None:
        waits_for = self._client.get(kernel_path(name)).get("waits_for") or ""
        before = self._told.get(name)
        if before is None or waits_for in {"", before}:
            return
        self._told[name] = waits_for
        print(render.plain(f"{name} waits for {waits_for}"), file=sys.stderr, flush=True)
        if not before:
            hint = f"  kconnd-ctl {self._verb} --now {name} ends the wait"
            print(hint, file=sys.stderr, flush=True)
