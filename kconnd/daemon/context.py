"""What all kernels of a daemon share, built once in `kconnd.daemon.main`."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from kconnd.core.kernel.wall_time import WallClock
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.kernel_files import KernelFiles, WarmFiles, kernel_files, warm_files
from kconnd.core.launch.plan import User
from kconnd.daemon.event_log import EventBus, Happening
from kconnd.daemon.staggering import Pace
from kconnd.launchers.base import Launcher
from kconnd.system.hung_calls import PathSteps
from kconnd.system.kernelspecs import KernelspecIndex
from kconnd.system.ledger import PortLedger
from kconnd.system.store import Store


class Channels(Protocol):
    """The part of `kconnd.system.channels.kernel_channels.KernelChannels` that the daemon uses."""

    @property
    def heard_at(self) -> float:
        """When the kernel published anything last, in monotonic seconds."""
        ...

    async def kernel_info(self, channel: str = "shell", subshell: str = "") -> Mapping[str, Any]:
        """Ask who the kernel is."""
        ...

    async def list_subshells(self) -> Sequence[str]:
        """Ask which subshells the kernel has."""
        ...

    async def execute_silently(self, code: str) -> bool:
        """Run code, and tell whether it went well."""
        ...

    async def evaluate(self, expression: str) -> str:
        """Evaluate an expression, and give the text that a cell would show."""
        ...

    async def request(self, kind: str, content: Mapping[str, Any]) -> None:
        """Send a control request."""
        ...

    async def control(self, kind: str, content: Mapping[str, Any]) -> None:
        """Send a control request, and wait for its reply as long as it takes."""
        ...

    async def watch_status(
        self, seen: Callable[[str, bool], None], lost: Callable[[], None]
    ) -> None:
        """Report which requests the kernel works on, and when messages may have been lost."""
        ...

    def heartbeat(self) -> bool | None:
        """Send the next heartbeat, and tell about the one before; None where that is unknown."""
        ...

    def close(self) -> None:
        """Let go of the kernel."""
        ...


@dataclass(frozen=True)
class World:
    """The daemon's surroundings.

    Parameters
    ----------
    user : User
        Whose kernels these are.
    environment : mapping
        The daemon's own, of which little reaches a kernel.
    runtime_dir : Path
        For sockets and connection files.
    machines_dir : Path, optional
        Where machines that share our home keep theirs, a folder each.
    ports : tuple of int
        First and last of the automatic ports.
    slots : asyncio.Semaphore
        How many kernels may be starting at once; more would only make each other late.
    launch_limit : float
        Seconds until there is a process, the first imports of a parent included.
    pace : Pace
        Of the questions to kernels that were adopted.
    paths : PathSteps
        Runs what touches paths that others name, each of which may hang.
    kernelspecs : KernelspecIndex
        Where installed kernel specs are.
    calendar : WallClock
        Gives the times of day of moments in monotonic seconds.
    clock, wall_clock : callable
        Monotonic seconds, by which all is decided, and seconds since the epoch, for people.
    roll : callable
        A random number from 0 to 1.
    """

    user: User
    environment: Mapping[str, str]
    runtime_dir: Path
    machines_dir: Path | None
    ports: tuple[int, int]
    launcher: Launcher
    connect: Callable[[ConnectionInfo], Channels]
    store: Store
    ledger: PortLedger
    bus: EventBus
    slots: asyncio.Semaphore
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    roll: Callable[[], float]
    launch_limit: float = 120.0
    pace: Pace = field(default_factory=Pace)
    paths: PathSteps = field(default_factory=PathSteps)
    kernelspecs: KernelspecIndex = field(default_factory=KernelspecIndex)
    calendar: WallClock = field(default_factory=WallClock)

    def announce(self, kernel: str, kind: str, message: str) -> None:
        """Publish an event about a kernel to all subscribers."""
        self.bus.tell(Happening(self.wall_clock(), kernel, kind, message))

    def files(self, name: str) -> KernelFiles:
        """Give the paths of a kernel's files."""
        return kernel_files(str(self.runtime_dir), str(self.store.state_dir), name)

    def warm_files(self, name: str) -> WarmFiles:
        """Give the paths of a warm kernel's files."""
        return warm_files(str(self.runtime_dir), str(self.store.state_dir), name)

    def wall_time(self, at: float) -> float:
        """Give the time of day of a moment in monotonic seconds, for people to read."""
        return self.calendar.time_of(at, self.wall_clock() - self.clock())
