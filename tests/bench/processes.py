"""What the system tells: how long a process ran, what memory is its own, who is at work."""

import time
from pathlib import Path

import psutil

IDLE = 10.0  # percent of all processors: what a machine does that has nothing to do
GLANCE = 0.1  # seconds


def ran(pid: int) -> float:
    """Give the seconds that a process has run, to the nanosecond (proc(5), schedstat).

    Its times in ticks are sampled: one that wakes with the clock is charged a tick for little.
    """
    paths = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text(encoding="ascii").split()[0]) for path in paths) / 1e9


def private(pid: int) -> float:
    """Give the megabytes that are a process's own: nobody else has them mapped."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    rows = (line.split() for line in text.splitlines() if line.startswith("Private_"))
    return sum(int(row[1]) for row in rows) / 1024


def wait_until_idle(limit: float = 5.0) -> bool:
    """Wait until the machine is idle, or for these seconds; tells whether it is idle.

    What one start leaves to be done, by whomever, is not part of the next.
    """
    end = time.monotonic() + limit
    while psutil.cpu_percent(GLANCE) > IDLE:
        if time.monotonic() > end:
            return False
    return True
