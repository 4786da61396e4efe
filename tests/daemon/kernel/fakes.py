"""Fakes around one kernel: a kernel that answers, and a world that a test builds in one line."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kconnd.core.kernel.record import Origin
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.plan import User
from kconnd.daemon.context import World
from kconnd.daemon.event_log import EventBus
from kconnd.daemon.staggering import Pace
from kconnd.errors import StartFailedError
from kconnd.system.files.private import ensure_private_dir
from kconnd.system.ledger import PortLedger
from kconnd.system.store import Store
from tests.launchers.fake import FakeLauncher


@dataclass
class FakeChannels:
    """A kernel that answers once it may."""

    connection: ConnectionInfo
    may_answer: asyncio.Event
    asked: list[str] = field(default_factory=list)
    answers_heartbeats: bool | None = True
    subshells: list[str] = field(default_factory=list)
    fault: Exception | None = None  # of a list of subshells
    silent: set[str] = field(default_factory=set)  # subshells and channels that answer nothing
    closed: bool = False
    language: str = "python"
    heard_at: float = 0.0
    seen: Callable[[str, bool, str], None] | None = None
    lost: Callable[[], None] | None = None

    async def kernel_info(self, channel: str = "shell", subshell: str = "") -> Mapping[str, Any]:
        self.asked.append(subshell or channel)
        if (subshell or channel) in self.silent:
            await asyncio.Event().wait()
        await self.may_answer.wait()
        features = ["kernel subshells"] if self.subshells else []
        return {"language_info": {"name": self.language}, "supported_features": features}

    async def list_subshells(self) -> Sequence[str]:
        self.asked.append("list_subshells")
        if self.fault is not None:
            raise self.fault
        return self.subshells

    async def execute_silently(self, _code: str) -> bool:
        return False

    async def evaluate(self, _expression: str) -> str:
        return repr("[[], [], []]")

    async def run_cell(self, _code: str, _message_id: str) -> str:
        return "ok"

    async def request(self, kind: str, _content: Mapping[str, Any]) -> None:
        self.asked.append(kind)

    async def control(self, kind: str, _content: Mapping[str, Any]) -> None:
        self.asked.append(kind)
        await self.may_answer.wait()

    async def watch_status(
        self, seen: Callable[[str, bool, str], None], lost: Callable[[], None]
    ) -> None:
        self.seen, self.lost = seen, lost
        await asyncio.Event().wait()

    def heartbeat(self) -> bool | None:
        return self.answers_heartbeats

    def say(self, request: str, state: str, subshell: str = "") -> None:
        """Publish a status, as the kernel does."""
        assert self.seen is not None
        self.seen(request, state == "busy", subshell)

    def lose(self) -> None:
        """Lose what may have been published."""
        assert self.lost is not None
        self.lost()

    def close(self) -> None:
        self.closed = True


def make_world(folder: Path, **options: Any) -> World:
    """Build a world in a folder, over a fake launcher and a kernel that answers at once."""
    runtime = folder / "r"
    for path in (runtime, runtime / "ipc", runtime / "live"):
        ensure_private_dir(path)
    ready = asyncio.Event()
    ready.set()
    parts: dict[str, Any] = {
        "user": User("me", os.geteuid(), "/", "/bin/sh"),
        "environment": {},
        "runtime_dir": runtime,
        "machines_dir": None,
        "ports": (26000, 26999),
        "launcher": FakeLauncher(),
        "connect": lambda connection: FakeChannels(connection, ready),
        "store": options.get("store") or Store(folder / "s", Origin("m", "host", "fake")),
        "ledger": PortLedger(runtime),
        "bus": EventBus(),
        "slots": asyncio.Semaphore(1),
        "clock": asyncio.get_running_loop().time,
        "wall_clock": lambda: 1000.0,
        "roll": lambda: 0.5,
        "look_pace": Pace(0.0),
    }
    return World(**{**parts, **options})


def fail_after_grant(world: World) -> World:
    """Return a world in which no launch plan can be made once a kernel has ports."""

    class LateFault(User):
        def __getattribute__(self, name: str) -> Any:
            if name == "shell" and world.ledger.granted():
                raise StartFailedError("planning it: a fault after the grant")
            return super().__getattribute__(name)

    return replace(world, user=LateFault(**vars(world.user)))


class Reports(list[Any]):
    """The reports of a part under test, in order."""

    def of(self, kind: type) -> list[Any]:
        """Return the reports of one type."""
        return [report for report in self if isinstance(report, kind)]


def a_connection(folder: Path, transport: str = "ipc") -> ConnectionInfo:
    """Build a connection below a folder, or to ports."""
    ports = (1, 2, 3, 4, 5) if transport == "ipc" else (26001, 26002, 26003, 26004, 26005)
    ip = str(folder / "socket") if transport == "ipc" else "127.0.0.1"
    return ConnectionInfo(transport, ip, ports, key="k", kernel_name="fake")
