"""A connection file that the caller can read: the kernel's own, or a private copy of it.

A kernel that somebody shares has its file in a folder of theirs. Who may connect gets its
content over the socket, and their client keeps that in a file of their own, so no file is
ever shared between users.

Rules. Only the caller's own daemon says where a file is. Another owner's daemon is a stranger:
no path that it names is opened, and its word becomes no file name. It says how the kernel is
reached, and `reached` believes that as far as it leads to sockets of that owner on this machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
from pathlib import Path

from kconnd.client import Client, find_socket, has_front_door, kernel_path
from kconnd.core.launch.connection import ConnectionInfo, parse_connection, parse_foreign_connection
from kconnd.core.paths import owner_folder, runtime_dir
from kconnd.core.protocol.listening_ports import listener_uids
from kconnd.core.protocol.request_head import quote
from kconnd.errors import KconndError, RefusedError, UnreachableError
from kconnd.private_tmp import resolve_folder
from kconnd.system.files.private import ensure_private_dir, write_private
from kconnd.system.machine import machine_id

LONGEST = 100  # characters that a word may have in a file's name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def readable_connection_file(client: Client, kernel: dict[str, Any], name: str) -> str:
    """Give the path of a connection file that this process can read.

    Parameters
    ----------
    client : Client
        Asks for the content where the file is not the caller's own.
    kernel : dict
        What the daemon says of the kernel.
    name : str
        What the caller called it.

    Raises
    ------
    KconndError
        As `reached`.
    """
    uid = kernel.get("uid", os.geteuid())
    path = kernel["connection_file"]
    if uid == os.geteuid() and _is_ours(path):
        return str(path)
    connection = reached(client.get(kernel_path(name, "connection")), name, uid, kernel["owner"])
    words = (quote(str(word))[:LONGEST] for word in (kernel["owner"], kernel["name"]))
    copy = own_folder() / f"kernel-{'-'.join(words)}.json"
    write_private(copy, json.dumps(connection.to_file(), indent=1).encode())
    return str(copy)


def reached(content: Mapping[str, Any], name: str, uid: int, owner: str) -> ConnectionInfo:
    """Read how a kernel is reached, and see that this leads to its owner.

    Parameters
    ----------
    content : mapping
        As its daemon gives it.
    name : str
        What the caller called the kernel.
    uid, owner : int and str
        Whose daemon it is: the uid that `kconnd.client` puts into a reply, and the user's name.

    Raises
    ------
    RefusedError
        If the kernel is out of this user's reach, though they may have its key, or if it would
        lead to anybody's sockets but the owner's.
    UnreachableError
        If it makes no sense.
    """
    is_own = uid == os.geteuid()
    try:
        connection = parse_connection(content) if is_own else parse_foreign_connection(content)
    except ValueError as error:
        raise UnreachableError(
            f"connecting to {name}: the daemon of {owner} gives a connection that makes no sense: "
            f"{error}",
            hint=f"kconnd-ctl why {name} may tell more",
        ) from None
    if not is_own:
        _check_reach(connection, name, uid, owner)
    return connection


def _check_reach(connection: ConnectionInfo, name: str, uid: int, owner: str) -> None:
    """Refuse what leads to anybody but the owner."""
    if connection.transport == "ipc" and os.geteuid() != 0:
        raise RefusedError(
            f"connecting to {name}: its sockets are in a folder that only {owner} and "
            "root can enter",
            hint="a profile with 'access' has its kernel reached by tcp with CURVE instead",
        )
    if connection.transport == "ipc":
        wrong = [path for path in connection.socket_paths() if not _is_socket_of(path, uid)]
    else:
        wrong = _ports_of_others(connection, uid)
    if wrong:
        raise RefusedError(
            f"connecting to {name}: no kernel of {owner} listens on {wrong[0]}, as the daemon of "
            f"{owner} says, so nothing was sent there",
            hint=f"kconnd-ctl info {name} shows its state",
        )


def _is_socket_of(path: str, uid: int) -> bool:
    """Tell whether a path is a socket of an owner, in the folder of that owner's kernels.

    Only root gets here. The folder is the owner's, who can still replace a socket by a link after
    this look: then root's client greets whatever listens there, and says nothing more without
    an answer of ZeroMQ's.
    """
    if not path.startswith(f"{owner_folder(uid)}/"):
        return False
    try:
        about = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISSOCK(about.st_mode) and about.st_uid == uid


def _ports_of_others(connection: ConnectionInfo, uid: int) -> list[str]:
    """List the ports on which anybody but an owner listens, or nobody, or another machine."""
    ports = [f"{connection.ip} port {port}" for port in connection.ports]
    if not _is_of_this_machine(connection.ip):
        return ports
    tables = [_read_table(name) for name in ("tcp", "tcp6")]
    own = [listener_uids(tables, connection.ip, port) == {uid} for port in connection.ports]
    return [port for port, is_own in zip(ports, own, strict=True) if not is_own]


def _read_table(name: str) -> str:
    """Read who listens; nothing where this machine lacks the protocol, or hides the table."""
    try:
        return Path("/proc/self/net", name).read_text(encoding="ascii")
    except OSError:
        return ""


def _is_of_this_machine(ip: str) -> bool:
    """Tell whether an address is one of this machine's, by binding to it; nothing is sent."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((ip, 0))
    except OSError:
        return False
    return True


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
        home = Path(resolve_folder(runtime_dir({}, os.geteuid(), lingers=False), os.geteuid()))
    ensure_private_dir(home)
    ensure_private_dir(home / "shared")
    return home / "shared"
