"""Having a process give way to all others for a while, without a right to do so.

Niceness and SCHED_IDLE of single threads cannot be taken back without privileges (sched(7),
RLIMIT_NICE), and count for nothing between sessions where Linux groups processes by session.
The niceness of such a group can be raised and taken back by its owner, and holds for every
thread of the session. Where there are no such groups, or processor time is shared out by
cgroups, it does nothing.
"""

import asyncio
import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from kconnd.system.process.processes import ProcessId, opened

LOWEST, NORMAL = 19, 0
AGAIN = 0.11  # seconds: others than root may change one group, of all, in a tenth of a second
TRIES = 50
LONGEST = 5.0  # seconds that a process gives way; a machine that is never idle gets it done, too


class GivingWay:
    """Has a process that leads a session give way, with all below it, while a block runs.

    Parameters
    ----------
    process : ProcessId
        Which one; nothing is done to one that leads no session of its own.
    """

    def __init__(self, process: ProcessId) -> None:
        self._process = process
        self._lowered = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._give_way())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take it back, and be sure of that."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._lowered and kind is None and not await self._set(NORMAL):
            raise OSError(f"process {self._process.pid} could not be given its priority back")

    async def _give_way(self) -> None:
        if read_group_nice(self._process) == NORMAL:
            self._lowered = True  # from before the attempt: it may be ended in the middle
            if await self._set(LOWEST):
                await asyncio.sleep(LONGEST)
            await self._set(NORMAL)

    async def _set(self, nice: int) -> bool:
        for _ in range(TRIES):
            with opened(self._process) as handle:
                if handle is None:
                    return False
                with contextlib.suppress(BlockingIOError):
                    return _write(self._process.pid, nice)
            await asyncio.sleep(AGAIN)
        return False


def read_group_nice(process: ProcessId) -> int | None:
    """Read how much a session gives way; None for one that this process does not lead alone."""
    with opened(process) as handle, contextlib.suppress(OSError, ValueError):
        text = Path(f"/proc/{process.pid}/autogroup").read_text(encoding="utf-8")
        group, _, nice = text.partition(" nice ")
        if handle is not None and os.getsid(process.pid) == process.pid and group[-2:] != "-0":
            return int(nice)
    return None


def _write(pid: int, nice: int) -> bool:
    try:
        Path(f"/proc/{pid}/autogroup").write_text(str(nice), encoding="utf-8")
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True
