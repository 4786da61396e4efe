"""Which systemd runs: some properties of units are known to newer ones alone."""

import re

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus

from kconnd.system.systemd.unit_control import MANAGER, NAME, PATH


def parse_version(text: str) -> int:
    """Read the number in what systemd says of itself, such as ``252.38-1~deb12u1``; 0 for none."""
    found = re.search(r"\d+", text)
    return int(found[0]) if found else 0


async def read_version() -> int:
    """Ask the manager that runs, which may be older than what is installed; 0 if it is silent."""
    get = Message(
        NAME,
        PATH,
        "org.freedesktop.DBus.Properties",
        "Get",
        signature="ss",
        body=[MANAGER, "Version"],
    )
    try:
        bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    except (OSError, EOFError):
        return 0
    try:
        reply = await bus.call(get)
    except (OSError, EOFError):
        return 0
    finally:
        bus.disconnect()
    return parse_version(reply.body[0].value) if reply.message_type is not MessageType.ERROR else 0
