"""Lower a process's CPU priority for a while, without privileges.

An unprivileged process can raise the niceness of a thread or set SCHED_IDLE, but cannot revert the
change (sched(7), RLIMIT_NICE). With autogroups, Linux schedules processes by session, and the
niceness of a thread has no effect on other sessions. The owner of an autogroup can raise the
niceness of the whole autogroup and lower it again. This module therefore changes the niceness of an
autogroup. The change has no effect if autogroups are off, or if cgroups divide the processor time.
"""

import asyncio
import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from kconnd.system.process.processes import ProcessId, open_pidfd

LOWEST_NICE, NORMAL_NICE = 19, 0
RETRY_DELAY_S = 0.11  # Linux allows all non-root users together one change per 0.1 s
MAX_TRIES = 50
MAX_LOW_PRIORITY_S = 5.0  # limited, so that the process makes progress on a busy machine


class LowPriority:
    """Lowers the priority of a session while an ``async with`` block runs.

    Parameters
    ----------
    process : ProcessId
        The leader of the session. A process that is not a session leader is not changed.
    """

    def __init__(self, process: ProcessId) -> None:
        self._process = process
        self._is_lowered = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._lower_for_a_while())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restore the normal priority.

        Raises
        ------
        OSError
            If the priority cannot be restored.
        """
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._is_lowered and kind is None and not await self._set_nice(NORMAL_NICE):
            raise OSError(f"restoring the priority of process {self._process.pid} failed")

    async def _lower_for_a_while(self) -> None:
        if read_group_nice(self._process) == NORMAL_NICE:
            # The flag is set first, because the attempt may be cancelled after it has changed the
            # niceness.
            self._is_lowered = True
            if await self._set_nice(LOWEST_NICE):
                await asyncio.sleep(MAX_LOW_PRIORITY_S)
            await self._set_nice(NORMAL_NICE)

    async def _set_nice(self, nice: int) -> bool:
        for _ in range(MAX_TRIES):
            with open_pidfd(self._process) as pidfd:
                if pidfd is None:
                    return False
                with contextlib.suppress(BlockingIOError):
                    return _write_group_nice(self._process.pid, nice)
            await asyncio.sleep(RETRY_DELAY_S)
        return False


def read_group_nice(process: ProcessId) -> int | None:
    """Read the niceness of a session's autogroup; None if the process leads no session."""
    with open_pidfd(process) as pidfd, contextlib.suppress(OSError, ValueError):
        text = Path(f"/proc/{process.pid}/autogroup").read_text(encoding="utf-8")
        group, _, nice = text.partition(" nice ")
        if pidfd is not None and os.getsid(process.pid) == process.pid and group[-2:] != "-0":
            return int(nice)
    return None


def _write_group_nice(pid: int, nice: int) -> bool:
    try:
        Path(f"/proc/{pid}/autogroup").write_text(str(nice), encoding="utf-8")
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True
