"""What befalls the daemon: kills, a full disk, and a clock that somebody sets."""

import contextlib
import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.end_to_end.daemon import Daemon

DISK_BYTES = 48 << 20
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
HOUR_S = 3600


@dataclass
class Clock:
    """The wall clock that the daemon sees (libfaketime), set forward and back.

    Parameters
    ----------
    file : Path
        Read by the library on each look at the clock.
    """

    file: Path
    changes: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """What the daemon is started with; its monotonic clock is the system's."""
        if not FAKETIME.exists():
            return {}
        return {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": "1",  # seconds; to read the file each time halves its speed
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds: int) -> None:
        """Set it so many seconds from the true time."""
        part = self.file.with_suffix(".part")
        part.write_text(f"{seconds:+d}\n", encoding="ascii")
        part.replace(self.file)
        self.changes += 1


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a disk of its own on a folder, where we may; tells whether there is one."""
    mount = [
        "/bin/mount",
        "-t",
        "tmpfs",
        "-o",
        f"size={DISK_BYTES},mode=0700",
        "kc-chaos",
        str(folder),
    ]
    own = os.geteuid() == 0 and subprocess.run(mount, check=False).returncode == 0
    try:
        yield own
    finally:
        if own:
            subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Fill a disk to the last byte, and give the room back at the end."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    stream.write(bytes(size))
    try:
        yield
    finally:
        ballast.unlink()


def kill_often(
    daemon: Daemon, clock: Clock, times: int, chance: random.Random, disk: Path | None
) -> list[float]:
    """Kill the daemon so many times; gives how long each took to have all kernels again.

    In the second quarter the disk is full. The clock is set at every fourth kill, by up to three
    hours forward or back.
    """
    adoptions = []
    with contextlib.ExitStack() as trouble:
        for number in range(times):
            if disk is not None and number == times // 4:
                trouble.enter_context(full_disk(disk))
            if number == times // 2:
                trouble.close()
            if number % 4 == 0:
                clock.set(chance.choice((-3, -1, 0, 1, 3)) * HOUR_S)
            time.sleep(chance.uniform(0, 2))
            daemon.kill()
            if chance.random() < 0.3:  # in the midst of its start, too
                spawn_and_kill(daemon, clock, chance.uniform(0, 0.4))
            began = time.monotonic()
            start(daemon, clock)
            adoptions.append(time.monotonic() - began)
    return adoptions


def start(daemon: Daemon, clock: Clock) -> None:
    """Start a daemon that sees this clock."""
    daemon.start(env={**os.environ, **clock.environment})


def spawn_and_kill(daemon: Daemon, clock: Clock, seconds: float) -> None:
    """Start a daemon and kill it before it has got far."""

    def kill() -> None:
        if daemon.process is not None:
            daemon.process.kill()

    timer = threading.Timer(seconds, kill)
    timer.start()
    with contextlib.suppress(AssertionError):
        start(daemon, clock)
    timer.join()
    assert daemon.process is not None  # start has set it
    daemon.process.wait()
