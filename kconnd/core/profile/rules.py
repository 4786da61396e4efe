"""The table of contradictions between the keys of a profile.

Each row describes a contradiction between values that are valid by themselves. No other module
checks keys against each other. A row lists all keys that the row reads; the parser skips the row if
one of these keys is faulty.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kconnd.core.profile.model import Profile
from kconnd.core.profile.values import Ports


@dataclass(frozen=True)
class Rule:
    """A contradiction between keys.

    Parameters
    ----------
    keys : tuple of str
        The keys that the rule reads, such as ``restart.backoff``. The problem is reported at the
        first of these keys.
    broken : callable
        A function that returns whether a profile has the contradiction.
    message, hint : str
        See `kconnd.core.profile.problems.Problem`.
    """

    keys: tuple[str, ...]
    broken: Callable[[Profile], bool]
    message: str
    hint: str


RULES: Final = (
    Rule(
        ("", "kernel", "python", "argv", "kernels"),
        lambda p: not (p.kernel or p.python or p.argv),
        "no key says what to run",
        "give one of kernel, python or argv",
    ),
    Rule(
        ("python", "kernel"),
        lambda p: bool(p.kernel and p.python),
        "kernel is given as well",
        "keep one of kernel, python and argv",
    ),
    Rule(
        ("argv", "kernel", "python"),
        lambda p: bool(p.argv and (p.kernel or p.python)),
        "kernel or python is given as well",
        "keep one of kernel, python and argv",
    ),
    Rule(
        ("setup", "shell"),
        lambda p: bool(p.setup) and p.shell == "none",
        "setup needs shell: login",
        "add that line, or drop setup",
    ),
    Rule(
        ("ports", "transport"),
        lambda p: p.ports != Ports() and p.transport == "ipc",
        "ports are for tcp, and transport is ipc",
        "drop ports, or write transport: tcp",
    ),
    Rule(
        ("ip", "transport"),
        lambda p: p.ip != "127.0.0.1" and p.transport == "ipc",
        "an address is for tcp, and transport is ipc",
        "drop ip, or write transport: tcp",
    ),
    Rule(
        ("encryption", "transport"),
        lambda p: p.encryption == "curve" and p.transport == "ipc",
        "curve is for tcp, and transport is ipc, which stays within the machine",
        "drop encryption, or write transport: tcp",
    ),
    Rule(
        ("transport", "access.connect", "access.manage"),
        lambda p: p.transport == "ipc" and bool(p.access.connect or p.access.manage),
        "other users may connect, and they cannot reach an ipc socket",
        "write transport: auto, which selects tcp with curve here",
    ),
    Rule(
        ("restart.backoff", "restart.backoff_max"),
        lambda p: p.restart.backoff > p.restart.backoff_max,
        "is longer than restart.backoff_max",
        "raise backoff_max as well",
    ),
    Rule(
        ("heartbeat.action", "restart.policy"),
        lambda p: p.heartbeat.action == "restart" and p.restart.policy == "no",
        "is restart, and restart.policy is no",
        "write policy: on-failure, or action: report",
    ),
    Rule(
        ("instance", "ports"),
        lambda p: p.instance == "per-session" and bool(p.ports.fixed),
        "several kernels cannot share five fixed ports",
        "give ports a range, or write instance: shared",
    ),
    Rule(
        ("warm", "ports"),
        lambda p: p.warm > 0 and bool(p.ports.fixed),
        "warm kernels cannot share five fixed ports",
        "give ports a range, or drop warm",
    ),
    Rule(
        ("warm", "connection_folder"),
        lambda p: p.warm > 0 and bool(p.connection_folder),
        "warm kernels have their connection files in kconnd's own folder",
        "drop warm or connection_folder",
    ),
    Rule(
        ("preload", "launcher"),
        lambda p: bool(p.preload) and p.launcher in {"local", "systemd"},
        "only the fork launcher preloads modules",
        "write launcher: auto or fork, or drop preload",
    ),
    Rule(
        ("preload", "argv"),
        lambda p: bool(p.preload and p.argv),
        "modules cannot be preloaded for argv",
        "write kernel or python in place of argv, or drop preload",
    ),
)
