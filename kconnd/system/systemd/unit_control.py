"""The service manager's own interface, over the system bus (org.freedesktop.systemd1(5))."""

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
LIMIT = 30.0  # seconds for a unit to come up
CALL_LIMIT = 10.0  # seconds for an answer of the manager
GLANCE = 0.01  # seconds between looks
UP = {"active", "activating", "reloading"}
WAITING = {"activating", "reloading", "deactivating", "starting", "restarting"}


class Systemd:
    """The one connection to the system's manager, made again where it was lost.

    Parameters
    ----------
    address : str, optional
        The bus; the system's by default.
    limit : float
        Seconds for an answer.
    """

    def __init__(self, address: str | None = None, limit: float = CALL_LIMIT) -> None:
        self._address, self._limit = address, limit
        self._bus: MessageBus | None = None
        self._losing: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()  # many ask at once, and one of them connects

    async def start(self, unit: str) -> None:
        """Start a unit and wait until it has; do nothing where it runs.

        Raises
        ------
        KconndError
            If the manager does not take the job, or the unit does not come up.
        """
        await self._call("StartUnit", "ss", [unit, "replace"])
        try:
            async with asyncio.timeout(LIMIT):
                while (state := await self._state(unit)) in WAITING:  # noqa: ASYNC110  # no event
                    await asyncio.sleep(GLANCE)
        except TimeoutError:
            state = "still starting"
        if state != "active":
            raise KconndError(
                f"starting {unit}: it is {state}", hint=f"journalctl -u {unit} tells more"
            )

    async def complete(self, unit: str) -> None:
        """Start a unit of one task, and wait until that is done.

        Raises
        ------
        KconndError
            If the manager does not take the job, or the task fails.
        """
        await self._call("StartUnit", "ss", [unit, "replace"])
        try:
            async with asyncio.timeout(LIMIT):
                while (state := await self._state(unit)) in WAITING:  # noqa: ASYNC110  # no event
                    await asyncio.sleep(GLANCE)
        except TimeoutError:
            state = "still at it"
        if state != "inactive":
            raise KconndError(
                f"running {unit}: it is {state}", hint=f"journalctl -u {unit} tells more"
            )

    async def run(self, unit: str, properties: list[list[object]]) -> None:
        """Make a transient unit and start it; one of that name that runs is left as it is.

        Raises
        ------
        KconndError
            If the manager does not take it.
        """
        try:
            await self._call(
                "StartTransientUnit", "ssa(sv)a(sa(sv))", [unit, "fail", properties, []]
            )
        except KconndError:
            if not await self.is_active(unit):
                raise

    async def memory_limit(self, unit: str) -> int:
        """Give a slice's limit of memory in bytes; `UNLIMITED` where there is none."""
        path = (await self._call("LoadUnit", "s", [unit]))[0]
        where = {"path": path, "interface": "org.freedesktop.DBus.Properties"}
        reply = await self._call("Get", "ss", [f"{NAME}.Slice", "MemoryMax"], **where)
        return int(reply[0].value)

    async def limit_memory(self, unit: str, size: int) -> None:
        """Limit a unit's memory in bytes, until the next boot."""
        row = ["MemoryMax", Variant("t", size)]
        await self._call("SetUnitProperties", "sba(sv)", [unit, True, [row]])

    async def is_active(self, unit: str) -> bool:
        """Tell whether a unit is loaded and active."""
        return await self._state(unit) == "active"

    async def _state(self, unit: str) -> str:
        """Give a unit's state, or that of the job which is about to change it."""
        reply = await self._call("ListUnitsByNames", "as", [[unit]])
        states = [f"{row[8]}ing" if row[7] else str(row[3]) for row in reply[0]]
        return states[0] if states else "inactive"

    async def active(self, pattern: str) -> list[str]:
        """List the active units whose names fit a pattern."""
        reply = await self._call("ListUnitsByPatterns", "asas", [["active"], [pattern]])
        return [str(row[0]) for row in reply[0]]

    async def taken(self, pattern: str) -> list[str]:
        """List those that are active or about to be: a job that starts one counts as it."""
        reply = await self._call("ListUnitsByPatterns", "asas", [[], [pattern]])
        return [str(row[0]) for row in reply[0] if row[3] in UP or (row[7] and row[8] == "start")]

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
            async with asyncio.timeout(self._limit):
                bus = await self._connected()
                reply = await bus.call(message)
        except (OSError, EOFError, DBusError, AuthError, InvalidAddressError) as error:
            why = "it takes too long" if isinstance(error, TimeoutError) else error
            raise KconndError(
                f"asking systemd for {member}: {why}", hint="see 'systemctl status dbus'"
            ) from error
        if reply is None:
            raise KconndError(f"asking systemd for {member}: the bus gave no answer")
        if reply.message_type is MessageType.ERROR:
            raise KconndError(
                f"asking systemd for {member} {body[0]}: {reply.body[0] if reply.body else reply}",
                hint="journalctl -u kconnd tells more",
            )
        return list(reply.body)

    async def _connected(self) -> MessageBus:
        async with self._connecting:
            if self._bus is None or not self._bus.connected:
                self._bus = await MessageBus(self._address, BusType.SYSTEM).connect()
                self._losing = asyncio.create_task(_await_loss(self._bus))
            return self._bus

    async def close(self) -> None:
        """Let go of the connection."""
        if self._bus is not None and self._bus.connected:
            self._bus.disconnect()
            await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # theirs


async def _await_loss(bus: MessageBus) -> None:
    """Take the exception that a lost bus ends with, which asyncio would log as a fault."""
    with contextlib.suppress(OSError, EOFError):
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # theirs
