"""Clients that start small kernels, end them by a signal and look how that was told."""

import contextlib
import http.client
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.end_to_end.daemon import Daemon, DaemonError

ENDS = (signal.SIGKILL, signal.SIGABRT, signal.SIGTERM, signal.SIGSEGV)
GONE = (OSError, http.client.HTTPException, ValueError)


@dataclass
class Counted:
    """What the clients saw."""

    requests: int = 0
    refused: int = 0  # because no daemon was there
    unsaved: int = 0  # because the disk was full
    exits: int = 0
    exits_lost: list[str] = field(default_factory=list)
    starts_lost: list[str] = field(default_factory=list)  # begun, and then nobody knew of them


@contextlib.contextmanager
def crowd(daemon: Daemon, size: int, counted: Counted) -> Iterator[None]:
    """Have clients ask things all the while."""
    ending = threading.Event()
    threads = [
        threading.Thread(target=pester, args=(daemon, number, counted, ending))
        for number in range(size)
    ]
    for one in threads:
        one.start()
    try:
        yield
    finally:
        ending.set()
        for one in threads:
            one.join()


def pester(daemon: Daemon, number: int, counted: Counted, ending: threading.Event) -> None:
    """Be one client: look, start, end, ask how it ended, and try again where nobody answers."""

    def ask(method: str, path: str) -> Any:
        while True:
            try:
                counted.requests += 1
                return daemon.ask(method, f"/v1/{path}", {} if method == "POST" else None)
            except GONE:
                counted.refused += 1
                time.sleep(0.02)

    turn, chance = 0, random.Random(number)
    while not ending.is_set():
        turn += 1
        name, how = f"small@{number}-{turn}", chance.choice(ENDS)
        pid = start(ask, name, counted)
        ask("GET", "kernels")
        os.kill(pid, how)
        ended = ask("GET", f"kernels/{name}/wait?for=stopped")
        counted.exits += 1
        if (ended["last_exit"] or {}).get("signal") != how:
            counted.exits_lost.append(f"{name}: {how}, {ended['last_exit']}")


def start(ask: Any, name: str, counted: Counted) -> int:
    """Start a kernel; a daemon that died meanwhile may have begun it, or not."""
    while True:
        try:
            info = ask("POST", f"kernels/{name}/start")
            if info["pid"]:
                return int(info["pid"])
        except DaemonError as error:
            counted.unsaved += "space left" in str(error)
            if "unknown status" in str(error) or "no record of its exit" in str(error):
                counted.starts_lost.append(f"{name}: {error}")
