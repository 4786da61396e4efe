"""A connection file that the caller can read: the kernel's own, or a private copy of it.

A kernel that somebody shares has its file in a folder of theirs. Who may connect gets its
content over the socket, and their client keeps that in a file of their own, so no file is
ever shared between users.

Rules. Where a file is, its daemon says, and that may be another user's program: only a file of
our own is taken from there, and no word of it becomes a path.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path

from kconnd.client import Client, find_socket, has_front_door, kernel_path
from kconnd.core.places import owner_folder, runtime_dir
from kconnd.core.request_head import quoted
from kconnd.errors import KconndError, RefusedError
from kconnd.private_tmp import usable
from kconnd.system.files import ensure_private_dir, write_private
from kconnd.system.machine import machine_id, own_user

LONGEST = 100  # characters that a word may have in a file's name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


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
    path = kernel["connection_file"]
    if _is_ours(path):
        return str(path)
    content = client.get(kernel_path(name, "connection"))
    if content["transport"] == "ipc" and os.geteuid() not in {0, _uid_of(kernel["owner"])}:
        raise RefusedError(
            f"connecting to {name}: its sockets are in a folder that only {kernel['owner']} and "
            "root can enter",
            hint="a profile with 'access' has its kernel reached by tcp with CURVE instead",
        )
    words = (quoted(str(word))[:LONGEST] for word in (kernel["owner"], kernel["name"]))
    copy = own_folder() / f"kernel-{'-'.join(words)}.json"
    write_private(copy, json.dumps(content, indent=1).encode())
    return str(copy)


def this_machine() -> str:
    """Give the id that published connection files have for the machine that they are of."""
    return machine_id()


def _is_ours(path: object) -> bool:
    """Tell whether a path leads to a file of our own, and not by a link."""
    if not isinstance(path, str):
        return False
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):  # the latter for a NUL in it
        return False
    try:
        about = os.fstat(file)
        return stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid()
    finally:
        os.close(file)


def _uid_of(owner: object) -> int:
    mine = own_user()
    return mine.uid if owner == mine.name else -1


def own_folder() -> Path:
    """Make and give the folder for copies, of which nobody else can keep us out.

    With the front door it is in the folder that this makes for our own daemon: below /tmp,
    another user could have taken the name. It is no folder of kernels, whose files have names
    like those of copies.

    Raises
    ------
    UnsafePathError
        If somebody has had a hand in it.
    """
    home = Path(owner_folder(os.geteuid()))
    if has_front_door() and not home.is_dir():
        with contextlib.suppress(KconndError):  # one who may not use it can connect all the same
            Client(find_socket({})).get("/v1/health")  # it is made as our daemon starts
    if not home.is_dir():
        home = Path(usable(runtime_dir({}, os.geteuid(), lingers=False), os.geteuid()))
    ensure_private_dir(home)
    ensure_private_dir(home / "shared")
    return home / "shared"
