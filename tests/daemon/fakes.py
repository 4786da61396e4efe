"""A daemon's kernels over a fake launcher, and requests to them without a socket server."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from kconnd.core.access import Peer
from kconnd.core.kernel.lifecycle import State
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.profile.model import Profile
from kconnd.daemon.api.admission import Gate
from kconnd.daemon.api.request import Request
from kconnd.daemon.kernel.actor import Actor
from kconnd.daemon.kernels import Kernels
from kconnd.system.profiles.faults import Fault
from kconnd.system.profiles.loader import LoadedProfiles, SourcedProfile
from tests.conftest import wait_until
from tests.daemon.kernel.fakes import FakeChannels, make_world
from tests.launchers.fake import FakeLauncher

OWNER = Peer(os.geteuid(), 7, "me")
STRANGER = Peer(os.geteuid() + 4711, 7, "eve")
LAB = Profile(
    name="lab",
    argv=("/bin/kernel", "{connection_file}"),
    transport="ipc",
    stop_timeout=0.02,  # the fake launcher's kernels end by a signal, not by a message
)


class House:
    """The kernels of one owner, whose profiles a test replaces."""

    def __init__(self, folder: Path, *profiles: Profile) -> None:
        self.launcher = FakeLauncher()
        self.channels: list[FakeChannels] = []
        self._sockets = contextlib.ExitStack()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.world = make_world(folder, launcher=self.launcher, connect=self._connect)
        self.kernels = Kernels(self.world, self._load)
        self.kernels.catalog._scan = lambda _begin: {}  # no kernel spec is installed
        self.hold(*profiles or (LAB,))
        self.kernels.catalog.replace(self.loaded)

    def hold(self, *profiles: Profile, faults: tuple[Fault, ...] = ()) -> None:
        """Set the profiles that the next reload reads."""
        sourced = {
            profile.name: SourcedProfile(profile, f"{profile.name}.yaml", 1) for profile in profiles
        }
        self.loaded = LoadedProfiles(sourced, faults)

    async def _load(self) -> LoadedProfiles:
        return self.loaded

    def _connect(self, connection: ConnectionInfo) -> FakeChannels:
        """Bind the kernel's sockets, and return a connection to it."""
        for path in connection.socket_paths():
            Path(path).unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            listener.listen()
            self._sockets.callback(os.close, listener.detach())
        self.channels.append(FakeChannels(connection, self.may_answer))
        return self.channels[-1]

    def request(self, name: str = "", peer: Peer = OWNER, **fields: Any) -> Request:
        """Build a request; the fields are its query and its body."""
        return Request(self.kernels, {"socket": "/s"}, Gate(None), peer, name, **fields)

    async def reach(self, name: str, state: State) -> Actor:
        """Wait until a kernel has a state."""
        actor = self.kernels.find(name)
        await wait_until(lambda: actor.kernel.state is state, f"{name} to be {state}")
        return actor

    async def close(self) -> None:
        """End the supervision."""
        await self.kernels.detach_all()
        self.world.store.close()
        self._sockets.close()


@contextlib.asynccontextmanager
async def house_in(folder: Path, *profiles: Profile) -> AsyncIterator[House]:
    """Build the kernels in a folder, and end their supervision at the end."""
    house = House(folder, *profiles)
    try:
        yield house
    finally:
        await house.close()
