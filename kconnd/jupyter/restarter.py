"""Replaces a kernel manager's restarter, because the daemon restarts kernels.

A Jupyter server uses `AsyncIOLoopKernelManager`, which has a restarter. The restarter polls the
manager's kernel every few seconds, restarts a dead kernel, and calls the callbacks of front ends.
`KconndRestarter` polls and calls the callbacks as well, but does not restart a kernel. Source:
``restarter_class`` and ``add_restart_callback`` in the jupyter_client documentation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from jupyter_client.ioloop.manager import AsyncIOLoopKernelManager
from jupyter_client.ioloop.restarter import AsyncIOLoopKernelRestarter

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
    """

    fate: Fate
    generation: int
    code: int = UNKNOWN_EXIT


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
        Whether the present process has the key and ports of the attached process.
    """
    present = int(kernel["generation"])
    if kernel["state"] in UP:
        if present == generation:
            return ProcessStatus(Fate.RUNNING, present)
        return ProcessStatus(Fate.REPLACED if same_connection else Fate.ENDED, present)
    last_exit = kernel["last_exit"] or {}
    code = int(last_exit.get("code") or last_exit.get("signal") or 0)
    if kernel["state"] == "backoff":
        return ProcessStatus(Fate.REPLACED, present + 1, code)
    return ProcessStatus(Fate.ENDED, present, code)


class AttachedProvisioner(Protocol):
    """The part of `kconnd.jupyter.provisioner.KconndProvisioner` that the restarter uses."""

    generation: int

    async def poll_status(self) -> ProcessStatus | None:
        """Query the status of the attached process; None if the daemon does not answer."""
        ...


_Stock: Any = AsyncIOLoopKernelRestarter  # its type annotations do not match its callers


class KconndRestarter(_Stock):  # type: ignore[misc]  # see above
    """Notifies front ends when the daemon has restarted their kernel or the kernel has ended."""

    _announced_generation = 0

    @property
    def _provisioner(self) -> AttachedProvisioner:
        provisioner: AttachedProvisioner = self.kernel_manager.provisioner
        return provisioner

    def start(self) -> None:
        """Begin to poll every ``time_to_dead`` seconds."""
        self._announced_generation = self._provisioner.generation
        super().start()

    async def poll(self) -> None:
        """Query the status once; if it has changed, call the callbacks of front ends."""
        if self.kernel_manager.shutting_down:
            return
        status = await self._provisioner.poll_status()
        # A shutdown may have begun during the query.
        if status is None or self.kernel_manager.shutting_down:
            return
        if status.fate is Fate.ENDED:
            self._fire_callbacks("dead")
            self.stop()
        elif status.generation > self._announced_generation:
            self._announced_generation = status.generation
            self._fire_callbacks("restart")


def leave_restarts_to_daemon(manager: Any) -> None:
    """Prevent a kernel manager from restarting its kernel."""
    if isinstance(manager, AsyncIOLoopKernelManager):
        manager.restarter_class = KconndRestarter
    else:
        manager.autorestart = False
