"""In place of a kernel manager's restarter: the daemon restarts kernels, and front ends are told.

A manager that serves front ends (`AsyncIOLoopKernelManager`, which a Jupyter server uses) looks
every few seconds whether its kernel lives, starts it again, and calls back those who want to
know. `Follower` does not start anything. Source: ``restarter_class`` and
``add_restart_callback`` in the jupyter_client documentation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from jupyter_client.ioloop.manager import AsyncIOLoopKernelManager
from jupyter_client.ioloop.restarter import AsyncIOLoopKernelRestarter

GONE = 1  # the exit code of a process of which none is known
UP = frozenset({"launching", "starting", "running", "stopping"})  # states that have a process


class Fate(Enum):
    """What became of the process that a front end knows."""

    THERE = "it runs"
    AGAIN = "another one is in its place, or will be"
    OVER = "it has ended, or is reached otherwise now"


@dataclass(frozen=True)
class Look:
    """What was seen of a kernel.

    Parameters
    ----------
    fate : Fate
        Of the process that was attached to.
    generation : int
        Of the process that runs now, or is the next to.
    code : int
        How it ended, where it did.
    """

    fate: Fate
    generation: int
    code: int = GONE


def fate_of(found: Mapping[str, Any], generation: int, *, same: bool) -> Look:
    """Tell what became of a process, from what the daemon says of its kernel.

    Parameters
    ----------
    found : mapping
        As ``GET /v1/kernels/NAME`` gives it.
    generation : int
        Of the process that is meant.
    same : bool
        Whether what runs now is reached as that one was.
    """
    now = int(found["generation"])
    if found["state"] in UP:
        if now == generation:
            return Look(Fate.THERE, now)
        return Look(Fate.AGAIN if same else Fate.OVER, now)
    last = found["last_exit"] or {}
    code = int(last.get("code") or last.get("signal") or 0)
    if found["state"] == "backoff":
        return Look(Fate.AGAIN, now + 1, code)
    return Look(Fate.OVER, now, code)


class Attached(Protocol):
    """The part of `kconnd.jupyter.provisioner` that is used here."""

    generation: int

    async def look(self) -> Look | None:
        """Look what became of the kernel."""
        ...


_Stock: Any = AsyncIOLoopKernelRestarter  # its annotations are not those of its callers


class Follower(_Stock):  # type: ignore[misc]  # see above
    """Tells front ends that their kernel's process was replaced, or is gone for good."""

    _told = 0  # the generation that front ends know of

    @property
    def _attached(self) -> Attached:
        provisioner: Attached = self.kernel_manager.provisioner
        return provisioner

    def start(self) -> None:
        """Look from now on, every ``time_to_dead`` seconds."""
        self._told = self._attached.generation
        super().start()

    async def poll(self) -> None:
        """Look once."""
        if self.kernel_manager.shutting_down:
            return
        seen = await self._attached.look()
        if seen is None or self.kernel_manager.shutting_down:
            return
        if seen.fate is Fate.OVER:
            self._fire_callbacks("dead")
            self.stop()
        elif seen.generation > self._told:
            self._told = seen.generation
            self._fire_callbacks("restart")


def follow(manager: Any) -> None:
    """Have a kernel manager follow what the daemon does, and restart nothing by itself."""
    if isinstance(manager, AsyncIOLoopKernelManager):
        manager.restarter_class = Follower
    else:
        manager.autorestart = False
