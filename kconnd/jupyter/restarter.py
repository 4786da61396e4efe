"""Replaces a kernel manager's restarter, because the daemon restarts kernels.

A Jupyter server uses `AsyncIOLoopKernelManager`, which has a restarter. The restarter polls the
manager's kernel every few seconds, restarts a dead kernel, and calls the callbacks of front ends.
`KconndRestarter` also polls and calls the callbacks, but does not restart a kernel. Source:
``restarter_class`` and ``add_restart_callback`` in the jupyter_client documentation.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

from jupyter_client.ioloop.manager import AsyncIOLoopKernelManager
from jupyter_client.ioloop.restarter import AsyncIOLoopKernelRestarter

from kconnd.jupyter.event_stream import Callback, subscribe
from kconnd.jupyter.kernel_follower import describe_change

UNKNOWN_EXIT = 1  # reported if the real exit status is unknown
UP = frozenset({"launching", "starting", "running", "stopping"})  # states with a process


class Fate(Enum):
    """The possible states of the process to which a front end is attached."""

    RUNNING = "it is running"
    REPLACED = "the daemon has restarted the kernel, or will"
    ENDED = "the kernel has ended, or has a new key or new ports"


@dataclass(frozen=True)
class ProcessStatus:
    """The state of the process to which a front end is attached, and the present generation.

    Parameters
    ----------
    fate : Fate
        The state of the attached process.
    generation : int
        The generation of the kernel's present process or, during a backoff, of the next process.
    code : int
        The exit status of the attached process, if it has exited.
    requested : bool
        Whether the process ended because of a request to restart or stop the kernel.
    is_ready : bool
        Whether the kernel's present process has answered.
    text : str
        A line for users that describes the end or the restart.
    ended_at : float
        When the last process ended, in seconds since the epoch; 0 if this is unknown.
    """

    fate: Fate
    generation: int
    code: int = UNKNOWN_EXIT
    requested: bool = False
    is_ready: bool = field(default=False, compare=False)
    text: str = field(default="", compare=False)
    ended_at: float = field(default=0.0, compare=False)


def process_status(
    kernel: Mapping[str, Any], generation: int, *, same_connection: bool
) -> ProcessStatus:
    """Derive the status of an attached process from the daemon's description of the kernel.

    Parameters
    ----------
    kernel : mapping
        The reply to ``GET /v1/kernels/NAME``.
    generation : int
        The generation of the attached process.
    same_connection : bool
        Whether the kernel's present process has the key and ports of the attached process; True if
        the kernel has no process at present.
    """
    status = _fate_of(kernel, generation, same_connection=same_connection)
    change = describe_change(kernel["name"], kernel, "", same_connection=same_connection)
    ended = (kernel["last_exit"] or {}).get("at")
    return replace(
        status,
        is_ready=kernel["state"] == "running",
        text=change.text,
        ended_at=datetime.fromisoformat(ended).timestamp() if ended else 0.0,
    )


def _fate_of(kernel: Mapping[str, Any], generation: int, *, same_connection: bool) -> ProcessStatus:
    present, last_exit = int(kernel["generation"]), kernel["last_exit"] or {}
    requested = bool(last_exit.get("requested"))
    if kernel["state"] in UP:
        if present == generation:
            return ProcessStatus(Fate.RUNNING, present)
        fate = Fate.REPLACED if same_connection else Fate.ENDED
        return ProcessStatus(fate, present, requested=requested)
    code = int(last_exit.get("code") or last_exit.get("signal") or 0)
    if kernel["state"] == "backoff":
        return ProcessStatus(Fate.REPLACED, present + 1, code)
    return ProcessStatus(Fate.ENDED, present, code, requested)


class ProcessListener(Protocol):
    """A function that a restarter calls when the kernel's process has changed."""

    def __call__(self, status: ProcessStatus, *, is_new: bool) -> None:
        """React to a change; ``is_new`` if the process has ended since the last call."""
        ...


class AttachedProvisioner(Protocol):
    """The part of `kconnd.jupyter.provisioner.KconndProvisioner` that the restarter uses."""

    @property
    def generation(self) -> int | None:
        """The generation of the attached process; None until it is known."""
        ...

    @property
    def kernel(self) -> str:
        """The kernel's name in kconnd."""
        ...

    async def poll_status(self) -> ProcessStatus | None:
        """Query the status of the attached process; None if the daemon does not answer."""
        ...

    async def reason_of_end(self) -> str:
        """Query why the last process ended; ``""`` if this is unknown."""
        ...


_Stock: Any = AsyncIOLoopKernelRestarter  # its type annotations do not match its callers


class KconndRestarter(_Stock):  # type: ignore[misc]  # see above
    """Notifies front ends when the daemon has restarted their kernel or the kernel has ended."""

    _announced_generation: int | None = None
    _was_ready = True
    _is_due = False
    _unsubscribe: Callback | None = None
    _event_poll: asyncio.Task[None] | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.listeners: list[ProcessListener] = []
        self._poll_lock = asyncio.Lock()  # listeners learn of changes in their order

    @property
    def _provisioner(self) -> AttachedProvisioner:
        provisioner: AttachedProvisioner = self.kernel_manager.provisioner
        return provisioner

    def start(self) -> None:
        """Begin to poll every ``time_to_dead`` seconds, and at each event of the kernel."""
        self._announced_generation = self._provisioner.generation
        if self._unsubscribe is None:
            self._unsubscribe = subscribe(self._provisioner.kernel, self.poll_soon)
        super().start()

    def stop(self) -> None:
        """Stop polling."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        super().stop()

    def poll_soon(self) -> None:
        """Poll in a task of its own; events that arrive during a poll cause one more poll."""
        self._is_due = True
        if self._event_poll is None or self._event_poll.done():
            self._event_poll = asyncio.ensure_future(self._poll_while_due())

    async def _poll_while_due(self) -> None:
        while self._is_due:
            self._is_due = False
            await self.poll()

    async def poll(self) -> None:
        """Query the status once; if it has changed, call the callbacks of front ends."""
        async with self._poll_lock:
            await self._poll_once()

    async def _poll_once(self) -> None:
        if self.kernel_manager.shutting_down:
            return
        status = await self._provisioner.poll_status()
        # A shutdown may have begun during the query.
        if status is None or self.kernel_manager.shutting_down:
            return
        if self._announced_generation is None:
            self._announced_generation = self._provisioner.generation or 0
        if status.fate is Fate.ENDED:
            self._call_listeners(status, is_new=True)
            self._fire_callbacks("dead")
            self.stop()
        elif status.generation > self._announced_generation:
            self._announced_generation = status.generation
            self._set_activity("starting")
            # The kernel itself announces a requested restart (``shutdown_reply``). Front ends treat
            # every callback as a crash: they open a dialog and drop the output of running cells.
            if not status.requested:
                self._fire_callbacks("restart")
            kernel, reason = self._provisioner.kernel, await self._provisioner.reason_of_end()
            change = describe_change(kernel, {"state": "running"}, reason, same_connection=True)
            self._call_listeners(replace(status, text=change.text), is_new=True)
            self._was_ready = False
        if status.is_ready and not self._was_ready:
            self._set_activity("idle")
            self._call_listeners(status, is_new=False)
        self._was_ready = status.is_ready

    def _set_activity(self, state: str) -> None:
        """Let a Jupyter server forget the activity of the process that has ended.

        The server learns of activity from iopub, where it may miss the first status of a new
        process. New websockets wait as long as the server considers a kernel to be starting, and
        are not checked if the server considers it busy.
        """
        manager = self.kernel_manager
        if hasattr(manager, "execution_state") and (
            state == "starting" or manager.execution_state == "starting"
        ):
            manager.execution_state = state

    def _call_listeners(self, status: ProcessStatus, *, is_new: bool) -> None:
        for listener in list(self.listeners):
            listener(status, is_new=is_new)


def leave_restarts_to_daemon(manager: Any) -> None:
    """Prevent a kernel manager from restarting its kernel."""
    if isinstance(manager, AsyncIOLoopKernelManager):
        manager.restarter_class = KconndRestarter
    else:
        manager.autorestart = False
