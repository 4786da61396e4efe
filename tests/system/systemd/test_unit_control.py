"""The connection to the service manager: one, and with a limit; on a bus without a manager."""

import asyncio
import contextlib
import gc
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Message
from dbus_fast.aio import MessageBus

from kconnd.errors import KconndError
from kconnd.system.systemd.unit_control import Systemd
from tests.conftest import wait_for, wait_until


@pytest.fixture
def path() -> Iterator[Path]:
    """Give a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="kc") as folder:
        yield Path(folder, "bus")


@contextlib.contextmanager
def bus_at(path: Path) -> Iterator[str]:
    if not shutil.which("dbus-daemon"):
        pytest.skip("needs dbus-daemon")
    address = f"unix:path={path}"
    command = ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as daemon:
        try:
            wait_for(path.is_socket, "the bus")
            yield address
        finally:
            daemon.kill()
    path.unlink(missing_ok=True)


async def connections(address: str) -> int:
    """Count who is connected to a bus, aside from who counts and the bus itself."""
    bus = await MessageBus(address).connect()
    place = "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus"
    reply = await bus.call(Message(*place, "ListNames"))
    bus.disconnect()
    await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # theirs
    assert reply is not None
    names: list[str] = reply.body[0]
    return sum(name.startswith(":") for name in names) - 1


@contextlib.asynccontextmanager
async def asking(address: str, limit: float = 10.0) -> AsyncIterator[Systemd]:
    systemd = Systemd(address, limit)
    try:
        yield systemd
    finally:
        await systemd.close()


class PlayedManager(Systemd):
    """A manager with one unit, which is in one state after the other.

    Parameters
    ----------
    states : str
        The states; the last one lasts.
    """

    def __init__(self, *states: str) -> None:
        super().__init__()
        self._states = [*states]
        self.calls: list[str] = []

    async def _call(self, member: str, *_: object, **__: object) -> list[Any]:
        self.calls.append(member)
        if member != "ListUnitsByNames":
            return []
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        return [[["k.service", "", "loaded", state, "", "", "/", 0, "", "/"]]]


async def test_a_start_waits_until_the_unit_is_active() -> None:
    manager = PlayedManager("activating", "activating", "active")
    await manager.start("k.service")
    assert manager.calls == ["StartUnit", *["ListUnitsByNames"] * 3]
    assert await manager.is_active("k.service")


async def test_a_unit_that_fails_is_an_error_with_its_state() -> None:
    with pytest.raises(KconndError, match=r"starting k.service: it is failed"):
        await PlayedManager("activating", "failed").start("k.service")
    with pytest.raises(KconndError, match=r"running k.service: it is active"):
        await PlayedManager("active").run_to_completion("k.service")
    await PlayedManager("activating", "inactive").run_to_completion("k.service")


async def test_all_who_ask_at_first_share_one_connection(path: Path) -> None:
    with bus_at(path) as address:
        async with asking(address) as systemd:
            asked = (systemd.list_active("x*") for _ in range(20))
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(one, KconndError) for one in outcomes), "no manager is there"
            assert await connections(address) == 1
        assert await connections(address) == 0


async def test_a_connection_that_was_lost_is_made_again(path: Path) -> None:
    with bus_at(path) as address:
        async with asking(address) as systemd:
            with pytest.raises(KconndError, match="calling ListUnitsByPatterns of systemd"):
                await systemd.list_active("x*")
    async with asking(f"unix:path={path}") as systemd:
        with pytest.raises(KconndError, match="No such file"):
            await systemd.list_active("x*")
        with bus_at(path) as address:
            for _ in range(3):
                with pytest.raises(KconndError):
                    await systemd.list_active("x*")
            assert await connections(address) == 1
        with bus_at(path) as address:
            for _ in range(3):
                with pytest.raises(KconndError):
                    await systemd.list_active("x*")
            assert await connections(address) == 1


async def test_a_bus_that_says_nothing_is_not_waited_for(path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):  # also where the test ends before this does
            await reader.read()

    async with await asyncio.start_unix_server(silent, path):
        async with asking(f"unix:path={path}", limit=0.2) as systemd:
            asked = (systemd.list_active("x*") for _ in range(3))
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert [str(one) for one in outcomes] == [
            "calling ListUnitsByPatterns of systemd: it timed out"
        ] * 3


async def lose_a_bus(path: Path) -> None:
    with bus_at(path) as address:
        systemd = Systemd(address)
        with contextlib.suppress(KconndError):
            await systemd.list_active("x*")
    await wait_until(lambda: not (systemd._bus and systemd._bus.connected), "the loss to be seen")


async def test_a_bus_that_is_lost_is_no_fault_of_the_loop(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What asyncio finds that nobody has awaited is a line of the log, with a traceback."""
    gc.collect()
    caplog.clear()  # of what other tests have left
    await lose_a_bus(path)
    gc.collect()
    await asyncio.sleep(0)
    assert caplog.text == ""
