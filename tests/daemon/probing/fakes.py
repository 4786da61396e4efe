"""Software with a scripted behaviour, for probes over a fake launcher."""

import asyncio
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.plan import LaunchPlan
from kconnd.launchers.base import ExitStatus, Handle
from tests.daemon.kernel.fakes import FakeChannels, make_world
from tests.launchers.fake import NOBODY, FakeLauncher

EXITED = ExitStatus(code=1)


@dataclass
class FakeSoftware:
    """The behaviour of a kernel's software; the defaults are those of ipykernel.

    Parameters
    ----------
    folder : Path
        The folder of the world.
    wires : frozenset
        Transport and encryption of each wire that the kernel supports; with any other wire, the
        kernel exits at once.
    language : str
        The language in its kernel_info_reply.
    on_control, beats_idle, beats_busy : bool
        Whether it answers on control, and heartbeats.
    dies_of_sigint, hears_messages, replies_interrupted : bool
        Whether SIGINT ends the kernel, ``interrupt_request`` ends a cell, and an interrupted cell
        is replied to.
    rewrites, stays : bool
        Whether it writes its connection file again, and lives on after its reply to a shutdown.
    """

    folder: Path
    wires: frozenset[tuple[str, bool]] = frozenset({("tcp", False), ("ipc", False), ("tcp", True)})
    language: str = "python"
    on_control: bool = True
    beats_idle: bool = True
    beats_busy: bool = True
    dies_of_sigint: bool = False
    hears_messages: bool = True
    replies_interrupted: bool = True
    rewrites: bool = False
    stays: bool = False
    cells: list[str] = field(default_factory=list)
    watchers: list[Callable[[str, bool, str], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.interrupted = asyncio.Event()
        self.most_live = 0  # processes at once
        self.is_busy = False
        self.launcher = ScriptedLauncher(self)
        self.world = make_world(self.folder, launcher=self.launcher, connect=self.connect)

    def connect(self, connection: ConnectionInfo) -> "ScriptedChannels":
        return ScriptedChannels(connection, asyncio.Event(), software=self)

    def publish(self, request: str, *, busy: bool) -> None:
        for watcher in tuple(self.watchers):
            watcher(request, busy, "")

    @property
    def live(self) -> int:
        """The number of processes that have not exited."""
        return sum(not exit_.done() for exit_ in self.launcher._exits.values())

    def files(self) -> set[str]:
        """List the files of kernels in the folders of the world."""
        folders = (self.world.runtime_dir / "live", self.world.runtime_dir / "ipc")
        paths = [path for folder in folders for path in folder.iterdir()]
        return {path.name for path in (*paths, *self.world.store.warm.glob("*"))}


def read_wire(plan: LaunchPlan) -> tuple[str, bool]:
    content = Path(plan.files.connection_file).read_text(encoding="utf-8")
    return "ipc" if '"ipc"' in content else "tcp", "curve" in content


def rewrite(plan: LaunchPlan) -> None:
    file = Path(plan.files.connection_file)
    file.write_text(file.read_text(encoding="utf-8").replace("\n", ""), encoding="utf-8")


@dataclass
class ScriptedLauncher(FakeLauncher):
    """Launches processes of a `FakeSoftware`."""

    def __init__(self, software: FakeSoftware) -> None:
        super().__init__()
        self.software = software

    async def launch(self, plan: LaunchPlan) -> Handle:
        handle = await super().launch(plan)
        self.software.interrupted.clear()
        self.software.most_live = max(self.software.most_live, self.software.live)
        if read_wire(plan) not in self.software.wires:
            self.end(len(self.launched), EXITED)
        if self.software.rewrites:
            rewrite(plan)
        return handle

    async def signal(self, handle: Handle, number: int) -> None:
        await super().signal(handle, number)
        if number == signal.SIGINT and self.software.dies_of_sigint:
            self.end(handle.kernel.pid - NOBODY, ExitStatus(code=0))
        self.software.interrupted.set()


@dataclass
class ScriptedChannels(FakeChannels):
    """A connection to a process of a `FakeSoftware`."""

    software: FakeSoftware = None  # type: ignore[assignment]  # always given

    async def kernel_info(self, channel: str = "shell", subshell: str = "") -> Mapping[str, Any]:
        number = len(self.software.launcher.launched)
        if self.software.launcher._exits[number].done():
            await asyncio.Event().wait()
        if channel == "control" and not self.software.on_control:
            await asyncio.Event().wait()
        self.software.publish(f"info {subshell}", busy=True)
        return {"language_info": {"name": self.software.language}, "implementation": "fake"}

    async def run_cell(self, code: str, message_id: str) -> str:
        self.software.cells.append(code)
        self.software.publish(message_id, busy=True)
        if "\n" not in code:  # a short cell
            return "ok"
        self.software.is_busy = True
        await self.software.interrupted.wait()
        self.software.is_busy = False
        self.software.publish(message_id, busy=False)
        if not self.software.replies_interrupted:
            await asyncio.Event().wait()
        return "error"

    async def control(self, kind: str, _content: Mapping[str, Any]) -> None:
        self.asked.append(kind)
        if kind == "shutdown_request" and not self.software.stays:
            number = len(self.software.launcher.launched)
            self.software.launcher.end(number, ExitStatus(code=0))
        elif kind == "interrupt_request" and self.software.hears_messages:
            self.software.interrupted.set()

    async def watch_status(
        self, seen: Callable[[str, bool, str], None], lost: Callable[[], None]
    ) -> None:
        self.software.watchers.append(seen)
        try:
            await super().watch_status(seen, lost)
        finally:
            self.software.watchers.remove(seen)

    def heartbeat(self) -> bool | None:
        return self.software.beats_busy if self.software.is_busy else self.software.beats_idle
