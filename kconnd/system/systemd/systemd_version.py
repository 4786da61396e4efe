"""Read the version of the running systemd: older versions lack some unit properties."""

import re

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus

from kconnd.system.systemd.unit_control import MANAGER, NAME, PATH


def parse_version(text: str) -> int:
    """Parse the major version in a text such as ``252.38-1~deb12u1``; 0 for a text without one."""
    digits = re.search(r"\d+", text)
    return int(digits[0]) if digits else 0


async def read_version() -> int:
    """Return the version of the running service manager; 0 after an error.

    The running service manager can be older than the installed one.
    """
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
