"""Control units through the service manager's D-Bus interface (org.freedesktop.systemd1(5))."""

import asyncio
import contextlib
from typing import Any

from dbus_fast import (
    AuthError,
    BusType,
    DBusError,
    InvalidAddressError,
    Message,
    MessageType,
    Variant,
)
from dbus_fast.aio import MessageBus

from kconnd.errors import KconndError

NAME, PATH = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
MANAGER = f"{NAME}.Manager"
UNLIMITED = (1 << 64) - 1
START_LIMIT_S = 30.0
CALL_LIMIT_S = 10.0
POLL_INTERVAL_S = 0.01
UP_STATES = {"active", "activating", "reloading"}
CHANGING_STATES = {"activating", "reloading", "deactivating", "starting", "restarting"}


class Systemd:
    """A connection to the system's service manager; the next call after a loss connects again.

    Parameters
    ----------
    address : str, optional
        The address of the bus; by default, the address of the system bus.
    limit_s : float
        The time limit of a call, in seconds.
    """

    def __init__(self, address: str | None = None, limit_s: float = CALL_LIMIT_S) -> None:
        self._address, self._limit_s = address, limit_s
        self._bus: MessageBus | None = None
        self._loss_watcher: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()  # concurrent calls share one attempt to connect

    async def start(self, unit: str) -> None:
        """Start a unit and wait until it is active; do nothing if the unit is running.

        Raises
        ------
        KconndError
            If the service manager rejects the job, or if the unit does not become active.
        """
        await self._start_and_wait(unit, "active", action="starting", timed_out="still starting")

    async def run_to_completion(self, unit: str) -> None:
        """Start a one-shot unit and wait until it has finished.

        Raises
        ------
        KconndError
            If the service manager rejects the job, or if the unit fails.
        """
        await self._start_and_wait(unit, "inactive", action="running", timed_out="still running")

    async def _start_and_wait(
        self, unit: str, desired: str, *, action: str, timed_out: str
    ) -> None:
        await self._call("StartUnit", "ss", [unit, "replace"])
        try:
            async with asyncio.timeout(START_LIMIT_S):
                while (state := await self._state(unit)) in CHANGING_STATES:  # noqa: ASYNC110  # no event
                    await asyncio.sleep(POLL_INTERVAL_S)
        except TimeoutError:
            state = timed_out
        if state != desired:
            raise KconndError(
                f"{action} {unit}: it is {state}", hint=f"journalctl -u {unit} shows its log"
            )

    async def start_transient(self, unit: str, properties: list[list[object]]) -> None:
        """Create and start a transient unit; do nothing if a unit of that name is running.

        Raises
        ------
        KconndError
            If the service manager rejects the unit.
        """
        try:
            await self._call(
                "StartTransientUnit", "ssa(sv)a(sa(sv))", [unit, "fail", properties, []]
            )
        except KconndError:
            if not await self.is_active(unit):
                raise

    async def memory_limit(self, unit: str) -> int:
        """Return a slice's memory limit in bytes; `UNLIMITED` if the slice has no limit."""
        path = (await self._call("LoadUnit", "s", [unit]))[0]
        target = {"path": path, "interface": "org.freedesktop.DBus.Properties"}
        reply = await self._call("Get", "ss", [f"{NAME}.Slice", "MemoryMax"], **target)
        return int(reply[0].value)

    async def limit_memory(self, unit: str, size: int) -> None:
        """Set a unit's memory limit to ``size`` bytes, until the next boot."""
        row = ["MemoryMax", Variant("t", size)]
        await self._call("SetUnitProperties", "sba(sv)", [unit, True, [row]])

    async def is_active(self, unit: str) -> bool:
        """Check whether a unit is loaded and active."""
        return await self._state(unit) == "active"

    async def _state(self, unit: str) -> str:
        """Return a unit's queued job, such as ``starting``; without a job, the unit's state."""
        reply = await self._call("ListUnitsByNames", "as", [[unit]])
        states = [f"{row[8]}ing" if row[7] else str(row[3]) for row in reply[0]]
        return states[0] if states else "inactive"

    async def list_active(self, pattern: str) -> list[str]:
        """List the active units whose names match a pattern."""
        reply = await self._call("ListUnitsByPatterns", "asas", [["active"], [pattern]])
        return [str(row[0]) for row in reply[0]]

    async def list_up(self, pattern: str) -> list[str]:
        """List the units that match a pattern and are active or have a start job."""
        reply = await self._call("ListUnitsByPatterns", "asas", [[], [pattern]])
        return [
            str(row[0]) for row in reply[0] if row[3] in UP_STATES or (row[7] and row[8] == "start")
        ]

    async def _call(
        self,
        member: str,
        signature: str,
        body: list[Any],
        *,
        path: str = PATH,
        interface: str = MANAGER,
    ) -> list[Any]:
        message = Message(NAME, path, interface, member, signature=signature, body=body)
        try:
            async with asyncio.timeout(self._limit_s):
                bus = await self._connect()
                reply = await bus.call(message)
        except (OSError, EOFError, DBusError, AuthError, InvalidAddressError) as error:
            reason = "it timed out" if isinstance(error, TimeoutError) else error
            raise KconndError(
                f"calling {member} of systemd: {reason}", hint="see 'systemctl status dbus'"
            ) from error
        if reply is None:
            raise KconndError(f"calling {member} of systemd: the bus sent no reply")
        if reply.message_type is MessageType.ERROR:
            detail = reply.body[0] if reply.body else reply
            raise KconndError(
                f"calling {member} of systemd for {body[0]}: {detail}",
                hint="journalctl -u kconnd shows the log",
            )
        return list(reply.body)

    async def _connect(self) -> MessageBus:
        async with self._connecting:
            if self._bus is None or not self._bus.connected:
                self._bus = await MessageBus(self._address, BusType.SYSTEM).connect()
                self._loss_watcher = asyncio.create_task(_ignore_loss(self._bus))
            return self._bus

    async def close(self) -> None:
        """Close the connection."""
        if self._bus is not None and self._bus.connected:
            self._bus.disconnect()
            await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # dbus_fast's


async def _ignore_loss(bus: MessageBus) -> None:
    """Retrieve the exception of a lost connection, so that asyncio does not log it."""
    with contextlib.suppress(OSError, EOFError):
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # dbus_fast's
