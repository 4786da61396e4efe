"""Background tasks of the supervision of one kernel."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

Work = Coroutine[Any, Any, None]

log = logging.getLogger("kconnd")


class BackgroundTasks:
    """Tasks that are cancelled together.

    Parameters
    ----------
    name : str
        The kernel's name, for the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Work) -> asyncio.Task[None]:
        """Start a task; keep a reference to the task until it ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finish)
        return task

    def cancel(self) -> None:
        """Cancel all tasks except the calling task."""
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # Nobody awaits the task, so its exception must be logged here.
        if not task.cancelled() and (error := task.exception()):
            log.error("%s: a task of its supervision failed", self._name, exc_info=error)
