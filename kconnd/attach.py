"""A connection file that the caller can read: the kernel's own, or a private copy of it.

A kernel that somebody shares has its file in a folder of theirs. Who may connect gets its
content over the socket, and their client keeps that in a file of their own, so no file is
ever shared between users.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from kconnd.client import kernel_path
from kconnd.core.places import runtime_dir
from kconnd.errors import RefusedError
from kconnd.system.files import ensure_private_dir, write_private
from kconnd.system.machine import machine_id, own_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kconnd.client import Client


def readable_connection_file(client: Client, kernel: dict[str, Any], name: str) -> str:
    """Give the path of a connection file that this process can read.

    Parameters
    ----------
    client : Client
        Asks for the content where the file is somebody else's.
    kernel : dict
        What the daemon says of the kernel.
    name : str
        What the caller called it.

    Raises
    ------
    RefusedError
        If the kernel is out of this user's reach, though they may have its key.
    """
    path: str = kernel["connection_file"]
    if kernel["owner"] == own_user().name or os.access(path, os.R_OK):
        return path
    content = client.get(kernel_path(name, "connection"))
    if content["transport"] == "ipc":
        raise RefusedError(
            f"connecting to {name}: its sockets are in a folder that only {kernel['owner']} and "
            "root can enter",
            hint="a profile with 'access' has its kernel reached by tcp with CURVE instead",
        )
    folder = Path(runtime_dir({}, os.geteuid(), lingers=False))
    copy = folder / f"kernel-{kernel['owner']}-{kernel['name']}.json"
    ensure_private_dir(folder)
    write_private(copy, json.dumps(content, indent=1).encode())
    return str(copy)


def this_machine() -> str:
    """Give the id that published connection files have for the machine that they are of."""
    return machine_id()
