"""Names the systemd unit of a kernel: a service or a scope, of the system or of the user."""

import re

from kconnd.core.paths import KERNEL_UNIT_PREFIX


def unit_name(uid: int, name: str, generation: int, kind: str = "service") -> str:
    """Return the name of a kernel's unit, escaped as systemd.unit(5) requires."""
    safe = re.sub(r"[^A-Za-z0-9._-]", lambda match: f"\\x{ord(match[0]):02x}", name)
    return f"{KERNEL_UNIT_PREFIX}{uid}-{safe}-{generation}.{kind}"
