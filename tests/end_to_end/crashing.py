"""Runs the daemon and kills it right before its Nth change of the outside world.

``crashing.py N POINTS OPTIONS...``: N counts from 1; with 0 the daemon is never killed. POINTS is a
file to which each change is written as it comes. SIGUSR1 restarts the count; a negative N counts
only from that signal on. Changes are found by Python's audit events: files opened for writing,
renamed or removed, locks taken, programs started.
"""

import os
import signal
import sys
from typing import Any

from kconnd.daemon.main import main

CHANGES = {"os.rename", "os.remove", "os.mkdir", "fcntl.flock", "subprocess.Popen", "socket.bind"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def kill_at(number: int, points: int) -> None:
    """Kill this process right before its change of this number."""
    seen, armed = 0, number > 0

    def arm(*_: object) -> None:
        nonlocal seen, armed
        seen, armed = 0, True
        os.write(points, b"armed\n")

    def watch(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        writes = event == "open" and bool(args[2] & WRITES)
        if not (writes or event in CHANGES):
            return
        if not armed:
            return
        seen += 1
        os.write(points, f"{seen} {event} {args[:2]}\n".encode())
        if seen == abs(number):
            os.kill(os.getpid(), signal.SIGKILL)

    signal.signal(signal.SIGUSR1, arm)
    sys.addaudithook(watch)


if __name__ == "__main__":
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    kill_at(int(sys.argv[1]), os.open(sys.argv[2], flags, 0o600))
    sys.exit(main(sys.argv[3:]))
