"""Describes limits that a daemon and its kernels inherit from the session that started the daemon.

All functions are pure. A session has soft limits, which a process can raise, and hard limits, which
only root can raise (getrlimit(2)). The daemon raises its soft limits, so that a ``ulimit -St`` of
the first session does not end kernels of later sessions. Hard limits, a lower priority and a choice
of processors stay, and are reported.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# The limits that the daemon raises: the option of ulimit, and a description with the amount. Limits
# of the stack and of core files are a user's preference, and not raised.
DESCRIPTIONS = {
    "cpu": ("-t", "{:d} s of processor time"),
    "fsize": ("-f", "files of at most {:d} bytes"),
    "data": ("-d", "{:d} bytes of data"),
    "as": ("-v", "{:d} bytes of address space"),
    "rss": ("-m", "{:d} bytes of resident memory"),
}
# The line of each limit in /proc/PID/limits (proc_pid_limits(5)).
PROC_NAMES = {
    "cpu": "Max cpu time",
    "fsize": "Max file size",
    "data": "Max data size",
    "as": "Max address space",
    "rss": "Max resident set",
}
KILLED_BY_LIMIT = {
    "SIGXCPU": "its limit of processor time was reached: ulimit -t",
    "SIGXFSZ": "its limit of the size of a file was reached: ulimit -f",
}


@dataclass(frozen=True)
class SessionLimits:
    """What a process inherited from its session.

    Parameters
    ----------
    hard_limits : mapping
        The finite hard limits, by the names of `DESCRIPTIONS`.
    nice : int
        The nice value; above 0, other processes go first (nice(1)).
    processors, all_processors : int
        How many processors the process may use, and how many the machine has.
    oom_score_adj : int
        Above 0, the OOM killer prefers the process (proc_pid_oom_score_adj(5)).
    """

    hard_limits: Mapping[str, int]
    nice: int = 0
    processors: int = 1
    all_processors: int = 1
    oom_score_adj: int = 0


def soft_limit(name: str, soft: int, hard: int, infinity: int) -> int:
    """Return the soft limit that a daemon sets.

    At the hard limit of processor time, Linux sends SIGKILL, which does not name the reason. The
    soft limit is one second lower: at the soft limit, Linux sends SIGXCPU.
    """
    if hard == infinity:
        return hard
    if name == "cpu":
        return max(1, hard - 1)
    return max(soft, hard)


def parse_hard_limits(text: str) -> dict[str, int]:
    """Return the finite hard limits in the text of /proc/PID/limits."""
    amounts = {
        name: line.removeprefix(label).split()[1]
        for line in text.splitlines()
        for name, label in PROC_NAMES.items()
        if line.startswith(label)
    }
    return {name: int(hard) for name, hard in amounts.items() if hard.isdecimal()}


def describe_inherited(inherited: SessionLimits) -> Iterator[str]:
    """Describe each restriction, in the order of their importance."""
    for name, (option, description) in DESCRIPTIONS.items():
        if name in inherited.hard_limits:
            amount = description.format(inherited.hard_limits[name])
            yield f"may use {amount} (ulimit -H{option[1:]})"
    if inherited.processors < inherited.all_processors:
        yield f"may use {inherited.processors} of {inherited.all_processors} processors (taskset)"
    if inherited.nice > 0:
        yield f"give way to other processes (nice {inherited.nice})"
    if inherited.oom_score_adj > 0:
        yield f"are killed first if memory runs out (oom_score_adj {inherited.oom_score_adj})"


def explain_signal(signal_name: str) -> str:
    """Return what a signal says about a limit; ``""`` for other signals."""
    return KILLED_BY_LIMIT.get(signal_name, "")
