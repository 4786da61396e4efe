"""Runs callbacks in an event loop as soon as the daemon reports an event of a kernel.

A Jupyter server polls its kernels every three seconds. A restarted kernel is ready in a fraction of
that time. If the server only polled, front ends could be notified of the crash too late, when the
new process already runs a cell. One thread for each owner's daemon therefore reads the daemon's
events. At each event of a kernel, the callbacks of the kernel's subscribers begin a poll at once.
The regular polls continue, because events are missed while the stream is interrupted.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable

from kconnd.client import Client, find_socket, owner_client
from kconnd.errors import KconndError
from kconnd.jupyter.async_client import split_owner

RETRY_DELAY_S = 1.0  # after the stream has ended, for example because the daemon has exited

Callback = Callable[[], None]


class EventStream:
    """The events of one daemon.

    Parameters
    ----------
    owner : str
        The daemon's owner; ``""`` for the caller.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._callbacks: dict[str, list[tuple[asyncio.AbstractEventLoop, Callback]]] = {}
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def subscribe(self, kernel: str, callback: Callback) -> Callback:
        """Run the callback in the caller's event loop after each event of a kernel.

        Return a function that ends the subscription.
        """
        entry = (asyncio.get_running_loop(), callback)
        with self._lock:
            self._callbacks.setdefault(kernel, []).append(entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="kconnd events")
                self._thread.start()

        def unsubscribe() -> None:
            with self._lock:
                if entry in self._callbacks.get(kernel, []):
                    self._callbacks[kernel].remove(entry)

        return unsubscribe

    def _run(self) -> None:
        while True:
            try:
                for event in self._client().stream("/v1/events?follow=1"):
                    self._dispatch(str(event["kernel"]))
            except KconndError:
                time.sleep(RETRY_DELAY_S)
                continue
            time.sleep(RETRY_DELAY_S)

    def _dispatch(self, kernel: str) -> None:
        with self._lock:
            entries = list(self._callbacks.get(kernel, []))
        for loop, callback in entries:
            if not loop.is_closed():
                loop.call_soon_threadsafe(callback)

    def _client(self) -> Client:
        return owner_client(self._owner) if self._owner else Client(find_socket(os.environ))


_streams: dict[str, EventStream] = {}


def subscribe(kernel: str, callback: Callback) -> Callback:
    """Run the callback in the caller's event loop after each event of the kernel.

    Parameters
    ----------
    kernel : str
        The kernel's name, as ``NAME`` or ``OWNER/NAME``.
    callback : callable
        A function without arguments.

    Returns
    -------
    callable
        A function that ends the subscription.
    """
    owner, name = split_owner(kernel)
    return _streams.setdefault(owner, EventStream(owner)).subscribe(name, callback)
