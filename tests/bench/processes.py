"""What the system tells of a process: how long it ran, and what memory is its own."""

from pathlib import Path


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
