"""The objects that all kernels of a daemon share; `kconnd.daemon.main` creates them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from kconnd.core.kernel.record import KernelRecord
from kconnd.core.kernel.wall_time import WallClock
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.kernel_files import KernelFiles, WarmFiles, kernel_files, warm_files
from kconnd.core.launch.plan import User
from kconnd.daemon.event_log import EventBus, KernelEvent
from kconnd.daemon.last_sessions import LastSessions
from kconnd.daemon.staggering import Pace
from kconnd.launchers.base import Launcher
from kconnd.system.account_defaults import AccountDefaults
from kconnd.system.hung_calls import PathSteps
from kconnd.system.kernel_software import LearnedCapabilities, SoftwareReader
from kconnd.system.kernelspecs import KernelspecIndex
from kconnd.system.ledger import PortLedger
from kconnd.system.program_choice import ProgramHints
from kconnd.system.store import Store

# A look at a kernel's sockets takes 5 ms of processor time. The delay keeps the looks of many
# kernels out of the time in which these kernels start.
LOOK_DELAY_S, LOOK_INTERVAL_S = 2.0, 0.02


class Channels(Protocol):
    """The part of `kconnd.system.channels.kernel_channels.KernelChannels` that the daemon uses."""

    @property
    def heard_at(self) -> float:
        """The time of the kernel's last published message, in monotonic seconds."""
        ...

    async def kernel_info(self, channel: str = "shell", subshell: str = "") -> Mapping[str, Any]:
        """Request the kernel's info, and return the reply's content."""
        ...

    async def list_subshells(self) -> Sequence[str]:
        """Request the ids of the kernel's subshells."""
        ...

    async def execute_silently(self, code: str) -> bool:
        """Run code, and return whether it succeeded."""
        ...

    async def evaluate(self, expression: str) -> str:
        """Evaluate an expression, and return the text that a cell would show."""
        ...

    async def run_cell(self, code: str, message_id: str) -> str:
        """Run code as a cell, in a request with this id, and return the status in the reply."""
        ...

    async def request(self, kind: str, content: Mapping[str, Any]) -> None:
        """Send a request on the control channel, without waiting for the reply."""
        ...

    async def control(self, kind: str, content: Mapping[str, Any]) -> None:
        """Send a request on the control channel, and wait for the reply without a time limit."""
        ...

    async def watch_status(
        self, on_status: Callable[[str, bool, str], None], on_loss: Callable[[], None]
    ) -> None:
        """Report the beginning and the end of each request, and each possible loss of messages."""
        ...

    def heartbeat(self) -> bool | None:
        """Send a heartbeat.

        Return whether the previous heartbeat was answered; None if this is unknown.
        """
        ...

    def close(self) -> None:
        """Close the sockets."""
        ...


@dataclass(frozen=True)
class World:
    """The objects that all kernels of a daemon share.

    Parameters
    ----------
    user : User
        The kernels' owner.
    environment : mapping
        The daemon's environment; kernels get a few of its variables.
    runtime_dir : Path
        The folder of sockets and connection files.
    machines_dir : Path, optional
        The folder that contains a state folder for each machine that shares the owner's home.
    ports : tuple of int
        The first and the last port of the range that is used unless a profile names ports.
    slots : asyncio.Semaphore
        The limit of concurrent starts; with more starts, each start would take longer.
    launch_limit : float
        The time limit in seconds from the beginning of a launch to the start of the process. For a
        forked kernel, the limit includes the imports of a new zygote.
    pace : Pace
        The object that spaces out requests to adopted kernels.
    look_pace : Pace
        The object that spaces out looks at the sockets of kernels that have just started.
    paths : PathSteps
        The object that uses threads to access paths that may hang.
    kernelspecs : KernelspecIndex
        The folders of installed kernel specs.
    software : SoftwareReader
        The object that reads facts about a kernel's software before the kernel starts.
    capabilities : LearnedCapabilities
        The store of facts about kernels' software that were observed during starts.
    account : AccountDefaults
        What a kernel inherits if no client of the owner has sent its session.
    sessions : LastSessions
        The session of each profile's latest launch.
    calendar : WallClock
        The converter of monotonic seconds to times of day.
    clock, wall_clock : callable
        Functions that return the time: monotonic seconds for decisions, and seconds since the epoch
        for display.
    roll : callable
        A function that returns a random number from 0 to 1, by which the delays of restarts vary.
    service_prefix : str
        The Python environment of the machine's service; ``""`` if the daemon does not belong to it.
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
    service_prefix: str = ""
    launch_limit: float = 120.0
    pace: Pace = field(default_factory=Pace)
    look_pace: Pace = field(default_factory=partial(Pace, LOOK_INTERVAL_S, LOOK_DELAY_S))
    paths: PathSteps = field(default_factory=PathSteps)
    kernelspecs: KernelspecIndex = field(default_factory=KernelspecIndex)
    software: SoftwareReader = field(default_factory=SoftwareReader)
    capabilities: LearnedCapabilities = field(default_factory=LearnedCapabilities)
    account: AccountDefaults = field(default_factory=AccountDefaults)
    sessions: LastSessions = field(default_factory=LastSessions)
    calendar: WallClock = field(default_factory=WallClock)

    def program_hints(
        self, record: KernelRecord | None = None, *, profile: str = ""
    ) -> ProgramHints:
        """Return what is known for the search of a kernel's program, and what the kernel inherits.

        Parameters
        ----------
        record : KernelRecord, optional
            The kernel's record; None for a kernel without a name.
        profile : str
            The profile of a kernel without a name, which inherits from the profile's last session.
        """
        if record is None:
            session = self.sessions.find(profile)
            return ProgramHints(service_prefix=self.service_prefix, session=session)
        return ProgramHints(
            kept=record.program, service_prefix=self.service_prefix, session=record.session
        )

    def announce(self, kernel: str, kind: str, message: str) -> None:
        """Publish an event about a kernel to all subscribers."""
        self.bus.publish(KernelEvent(self.wall_clock(), kernel, kind, message))

    def files(self, name: str) -> KernelFiles:
        """Return the paths of a kernel's files."""
        return kernel_files(str(self.runtime_dir), str(self.store.state_dir), name)

    def warm_files(self, name: str) -> WarmFiles:
        """Return the paths of a warm kernel's files."""
        return warm_files(str(self.runtime_dir), str(self.store.state_dir), name)

    def wall_time(self, at: float) -> float:
        """Convert monotonic seconds to a time of day for display."""
        return self.calendar.time_of(at, self.wall_clock() - self.clock())
