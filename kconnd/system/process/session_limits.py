"""Raises the limits of this process, and reads what a process inherited from its session."""

import contextlib
import os
import resource
from pathlib import Path

from kconnd.core.inherited_limits import DESCRIPTIONS, SessionLimits, parse_hard_limits, soft_limit


def raise_soft_limits() -> None:
    """Raise soft limits to the hard limits, for this process and the kernels that it starts.

    The default limit of open files suffices for only 100 kernels.
    """
    for name in (*DESCRIPTIONS, "nofile", "nproc"):
        number: int = getattr(resource, f"RLIMIT_{name.upper()}")
        soft, hard = resource.getrlimit(number)
        wanted = soft_limit(name, soft, hard, resource.RLIM_INFINITY)
        if wanted != soft:
            with contextlib.suppress(OSError, ValueError):  # a container can forbid it
                resource.setrlimit(number, (wanted, hard))


def read_inherited(pid: int) -> SessionLimits:
    """Read what a process inherited from the session that it was started in.

    Raises
    ------
    OSError
        If the process has exited, or belongs to another user.
    """
    folder = Path(f"/proc/{pid}")
    return SessionLimits(
        hard_limits=parse_hard_limits((folder / "limits").read_text(encoding="ascii")),
        nice=os.getpriority(os.PRIO_PROCESS, pid),
        processors=len(os.sched_getaffinity(pid)),
        all_processors=os.cpu_count() or 1,
        oom_score_adj=int((folder / "oom_score_adj").read_text(encoding="ascii")),
    )
