"""What contradicts what in a profile whose keys are each sound.

Rules: one row per contradiction, and nowhere else; a row names all the keys that it looks at,
so that it stays silent while one of them is itself at fault.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kconnd.core.profile.model import Profile
from kconnd.core.profile.values import Ports


@dataclass(frozen=True)
class Rule:
    """A fault between keys, each sound on its own.

    Parameters
    ----------
    keys : tuple of str
        The keys concerned, as ``restart.backoff``; the fault is told at the first of them.
    broken : callable
        Whether a profile is at fault.
    message, hint : str
        As in `Problem`.
    """

    keys: tuple[str, ...]
    broken: Callable[[Profile], bool]
    message: str
    hint: str


RULES: Final = (
    Rule(
        ("", "kernel", "python", "argv", "kernels"),
        lambda p: not (p.kernel or p.python or p.argv),
        "nothing says what to run",
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
        "others are to connect, and ipc is out of their reach",
        "write transport: auto, which takes tcp with curve here",
    ),
    Rule(
        ("encryption", "argv", "access.connect", "access.manage"),
        lambda p: bool(p.argv and (p.access.connect or p.access.manage)) and p.encryption == "auto",
        "others are to connect, and nothing says that a command of one's own encrypts",
        "write encryption: none where every user of the machine may read along, or curve",
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
        "many kernels cannot share five fixed ports",
        "give ports a range, or write instance: shared",
    ),
    Rule(
        ("warm", "ports"),
        lambda p: p.warm > 0 and bool(p.ports.fixed),
        "kernels started ahead cannot share five fixed ports",
        "give ports a range, or drop warm",
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
        "a command of one's own cannot be preloaded",
        "write kernel or python in place of argv, or drop preload",
    ),
)
